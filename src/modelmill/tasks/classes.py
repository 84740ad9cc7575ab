"""What is asked of the classes of a label column."""

from __future__ import annotations

from modelmill.errors import DatasetError, shorten


def check_classes(name: str, classes: tuple[str, ...], validation: set[str]) -> None:
    """Check that there is something to learn, and that the validation split asks for nothing else.

    :param name: of the label column.
    :param classes: of the train split.
    :param validation: classes of the validation split.
    :raises DatasetError: if there are fewer than two classes, or the validation split has another one.
    """
    if len(classes) < 2:
        raise DatasetError(
            f"label column {name!r} must have at least two classes in the train split",
            got=", ".join(classes) or "none",
            remedy="add rows of another class, or choose another label column",
        )
    unknown = sorted(validation - set(classes))
    if unknown:
        raise DatasetError(
            f"a class of {name!r} outside the train split must also stand in it; unknown: "
            f"{shorten(', '.join(unknown))}",
            remedy="add train rows of that class, or take those rows out",
        )
