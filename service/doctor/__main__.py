"""`python -m service.doctor`: in a checkout too, with a Python that cannot install the rest. Readable by Python 3.8."""

from __future__ import annotations

import sys

from service.doctor.python_version import check_python
from service.doctor.report import print_report

if __name__ == "__main__":
    finding = check_python(sys.version_info)
    if finding.level == "problem":  # nothing else can be imported
        print_report([finding], [], "--json" in sys.argv)
        sys.exit(1)
    from service.doctor.cli import main

    sys.exit(main(sys.argv[1:]))
