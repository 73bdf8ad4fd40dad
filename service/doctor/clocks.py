"""Whether the machines' clocks agree: ours, that of the queue's server and that of an API which runs already."""

from service.doctor.findings import Finding, ok, problem

_TOLERATED_S = 2.0  # HTTP dates are whole seconds


def check_clocks(server_ahead_s: float | None, api_ahead_s: float | None) -> list[Finding]:
    """How far each is ahead of this machine's; None: not known."""
    clocks = {"the queue's server (TIME)": server_ahead_s, "the API (Date)": api_ahead_s}
    known = {whose: ahead_s for whose, ahead_s in clocks.items() if ahead_s is not None}
    findings = [_off(whose, ahead_s) for whose, ahead_s in known.items() if abs(ahead_s) > _TOLERATED_S]
    if not known:
        return [ok("clock", "no other one to compare with: no server and no API runs yet")]
    if not findings:
        told = ", ".join(f"{whose} {round(ahead_s, 1) + 0.0:+.1f} s" for whose, ahead_s in known.items())
        findings.append(ok("clock", f"they agree: {told}"))
    return findings


def _off(whose: str, ahead_s: float) -> Finding:
    way = "ahead of" if ahead_s > 0 else "behind"
    return problem(
        "clock",
        f"the clock of {whose} is {abs(ahead_s):.0f} s {way} this machine's",
        "one of the two is wrong; API keys and shared pictures end at the wrong time, and logs cannot be compared",
        "let both machines keep time by NTP: timedatectl set-ntp true, or chronyd",
    )
