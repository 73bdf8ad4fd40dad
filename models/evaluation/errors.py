"""What stops an evaluation."""


class EvaluationError(Exception):
    """An evaluation that cannot be run as asked: what was wrong, what was got, what is allowed."""
