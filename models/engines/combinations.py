"""What does not go together, said by the settings' names before anything is loaded."""

from models.jobs import EngineConfig


def refuse_unsupported(config: EngineConfig) -> None:
    """Raises ValueError with one line about two settings that exclude each other."""
    model = f"VISCPM_{config.kind.upper()}"
    devices = f"{model}_DEVICES of more than one" if len(config.devices) > 1 else ""
    turns = "VISCPM_DEVICE_SHARING=turns" if config.turns is not None else ""
    offload = f"VISCPM_OFFLOAD={config.offload}" if config.offload != "off" else ""
    quantization = f"{model}_QUANTIZATION={config.quantization}" if config.quantization != "off" else ""
    pairs = [(devices, turns), (devices, offload), (devices, quantization), (turns, offload)]
    for one, other in pairs:
        if one and other:
            raise ValueError(f"{one} and {other} do not go together: unset one of them")
