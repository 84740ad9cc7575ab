"""Airflow's audit log: who has changed what."""

from __future__ import annotations

import json
from typing import Any

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.models.log import Log
from sqlalchemy.orm import Session

PREFIX = "modelmill."


def record(
    session: Session, user: BaseUser, event: str, *, dag_id: str | None = None, **details: Any
) -> None:
    """Write an entry, before what it tells of is done: without a database nothing is changed.

    :param session: the request's session; a request that fails takes the entry back; where the
        work is long, the route commits first, and the entry says what was asked for.
    :param user: who does it.
    :param event: what: ``save_pipeline`` and the like.
    :param dag_id: the pipeline.
    :param **details: what else to keep, such as ``digest``.
    """
    name = user.get_name()
    session.add(
        Log(
            event=f"{PREFIX}{event}",
            dag_id=dag_id,
            owner=name,
            owner_display_name=name,
            extra=json.dumps(details, sort_keys=True),
        )
    )
    session.flush()
