"""A step whose request has been checked: its key, and whether an earlier result may stand for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelmill.artifacts import AnyReference, DatasetRef, TableRef
from modelmill.component import AnyComponent, Config, Inputs
from modelmill.errors import InputError
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.checked_request import checked_config, checked_inputs
from modelmill.pipeline.request import StepRequest, StepResult, references, step_key
from modelmill.pipeline.table_uses import described, uses
from modelmill.registry.finished_runs import AskedRun, FinishedRun, RunPlace, remember
from modelmill.registry.tracking import TrackedRun, run_url
from modelmill.settings import Settings
from modelmill.tables.description import TableUse
from modelmill.tables.reading import check_table
from modelmill.tables.versions import table_states


@dataclass(frozen=True)
class CheckedStep:
    """A checked request, with the component that it names."""

    request: StepRequest
    settings: Settings
    component: AnyComponent
    config: Config
    inputs: Inputs
    key: str
    say: Callable[[str], None]

    @classmethod
    def of(cls, request: StepRequest, settings: Settings, say: Callable[[str], None]) -> CheckedStep:
        """Check a request, and compute its step key.

        :param request: the request.
        :param settings: where things are kept.
        :param say: gets each line to show.
        :return: the step.
        :raises InputError: if the request, its configuration or its data is wrong.
        """
        component = component_named(request.component)
        config, inputs = checked_config(component, request), checked_inputs(component, request)
        if component.either:
            field, port = component.either
            given, connected = bool(getattr(config, field)), getattr(inputs, port) is not None
            if error := component.unmet_choice(configured=given, connected=connected):
                raise error
        key = step_key(component, config, inputs, settings)
        return cls(request, settings, component, config, inputs, key, say)

    @property
    def asked(self) -> AskedRun:
        """What a run that has made the step's result is asked for by."""
        return AskedRun(self.settings.tracking_uri, self.request.pipeline, self.key)

    def _invalid(self, found: FinishedRun) -> str | None:
        outputs = self._outputs(found.outputs)
        for table in references(outputs):
            if not isinstance(table, TableRef | DatasetRef):
                continue
            was, now = found.tables.get(str(table)), table_states([table])[str(table)]
            if was != now:
                return f"{table} is {'gone' if now == 'missing' else 'not the table that it made'}"
            if now != "missing":
                try:
                    check_table(table, memory=self.settings.digests)
                except InputError as error:
                    return str(error)
        if self.component.still_valid is None or self.component.still_valid(outputs, self.settings):
            return None
        return "it no longer holds"

    def reused(self, found: FinishedRun, *, remembered: bool = False) -> StepResult | None:
        """Return the result of an earlier run if it may be reused; say that it is, or why it is made again.

        :param found: the run that made it.
        :param remembered: whether this work directory has it written down that this run has made it.
        :return: the result; None if it no longer holds.
        """
        if reason := self._invalid(found):
            self.say(f"the result of run {found.run_id} is made again: {reason}")
            return None
        place = RunPlace(found.experiment, found.run_id)
        self.say(f"{self.request.step}: nothing that it reads has changed, so run {place.run_id} is reused")
        if not remembered:
            remember(self.settings.home, self.asked, place)
        return self._result(found.outputs, place)

    def made(self, outputs: dict[str, AnyReference], run: TrackedRun) -> StepResult:
        """Return the result of a run that has ended well: the next one who asks for it finds it by its id.

        :param outputs: references by output port.
        :param run: the run that made them.
        :return: the result.
        """
        place = RunPlace(run.experiment_id, run.run_id)
        remember(self.settings.home, self.asked, place)
        return self._result(outputs, place, run)

    def _result(
        self, outputs: dict[str, AnyReference], place: RunPlace, run: TrackedRun | None = None
    ) -> StepResult:
        """Return the step's result, with the events that follow from it; ``run``: None if it was reused."""
        events: tuple[str, ...] = ()
        if self.component.events is not None:
            events = self.component.events(self.config, self._outputs(outputs))
        return StepResult(
            outputs=outputs,
            step_key=self.key,
            run_id=place.run_id,
            run_url=run_url(self.settings.tracking_uri, place.experiment, place.run_id),
            reused=run is None,
            events=events,
            tables=self._tables(outputs, run) if self.request.describe else (),
            figures=run.figures if run and self.request.describe else {},
        )

    def _tables(self, outputs: Mapping[str, AnyReference], run: TrackedRun | None) -> tuple[TableUse, ...]:
        try:
            found = uses(self.component, self.config, self.request.inputs, outputs)
            rows_read = run.rows_read if run else {}
            return tuple(described(found, step_key=self.key, rows_read=rows_read, reused=run is None))
        except Exception as error:  # the step is done, whatever a store says now
            self.say(f"{self.request.step}: its tables are not described: {error}")
            return ()

    def _outputs(self, outputs: Mapping[str, AnyReference]) -> Any:
        return self.component.outputs.model_validate(dict(outputs))
