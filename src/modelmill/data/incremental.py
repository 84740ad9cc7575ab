"""TODO"""


def update(*a, **k):
    return None
