# Written by scripts/operators_stub.py from the components' declarations.
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from modelmill.component import Config
from modelmill.steps.adapt_trunk import AdaptTrunkConfig
from modelmill.steps.apply_labels import ApplyLabelsConfig
from modelmill.steps.approve import ApproveConfig
from modelmill.steps.build_dataset import BuildDatasetConfig
from modelmill.steps.compress import CompressConfig
from modelmill.steps.decide import DecideConfig
from modelmill.steps.delta_table import DeltaTableConfig
from modelmill.steps.deploy import DeployConfig
from modelmill.steps.distill import DistillConfig
from modelmill.steps.distill_signals import DistillSignalsConfig
from modelmill.steps.evaluate import EvaluateConfig
from modelmill.steps.extract_frames import ExtractFramesConfig
from modelmill.steps.find_duplicate_videos import FindDuplicateVideosConfig
from modelmill.steps.fine_tune import FineTuneConfig
from modelmill.steps.gate import GateConfig
from modelmill.steps.gate_rules import GateRulesConfig
from modelmill.steps.guard import GuardConfig
from modelmill.steps.import_onnx import ImportOnnxConfig
from modelmill.steps.ingest import IngestConfig
from modelmill.steps.label_by_llm import LabelByLlmConfig
from modelmill.steps.label_rows import LabelRowsConfig
from modelmill.steps.make_defects import MakeDefectsConfig
from modelmill.steps.measure_videos import MeasureVideosConfig
from modelmill.steps.monitor import MonitorConfig
from modelmill.steps.pick_signal import PickSignalConfig
from modelmill.steps.probe_videos import ProbeVideosConfig
from modelmill.steps.promote import PromoteConfig
from modelmill.steps.prune import PruneConfig
from modelmill.steps.quantize import QuantizeConfig
from modelmill.steps.rank_label_errors import RankLabelErrorsConfig
from modelmill.steps.read_text_in_frames import ReadTextInFramesConfig
from modelmill.steps.replace_trunk import ReplaceTrunkConfig
from modelmill.steps.report_videos import ReportVideosConfig
from modelmill.steps.score_table import ScoreTableConfig
from modelmill.steps.signal_students import SignalStudentsConfig
from modelmill.steps.teach_trunk import TeachTrunkConfig
from modelmill.steps.tier_rules import TierRulesConfig
from modelmill.steps.train_heads import TrainHeadsConfig
from modelmill.steps.trunk import TrunkConfig
from modelmill.steps.try_rules import TryRulesConfig
from modelmill.steps.use_champion import UseChampionConfig
from modelmill_operators.assets import conditional_asset as conditional_asset
from modelmill_operators.assets import watched_table as watched_table
from modelmill_operators.operators import operator_for as operator_for
from modelmill_operators.rollback import RollbackOperator as RollbackOperator
from modelmill_operators.step import StepOperator as StepOperator
from modelmill_operators.triggers import DeltaTableTrigger as DeltaTableTrigger

_ConfigT = TypeVar("_ConfigT", bound=Config)

class _ComponentOperator(StepOperator, Generic[_ConfigT]):
    def __init__(
        self,
        *,
        task_id: str,
        inputs: Mapping[str, Any] | None = ...,
        config: _ConfigT | Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> None: ...

class AdaptTrunkOperator(_ComponentOperator[AdaptTrunkConfig]):
    """Let an encoder read the texts of any number of tables, without labels (continued pretraining)."""

class ApplyLabelsOperator(_ComponentOperator[ApplyLabelsConfig]):
    """Put the labels that people gave into a table; they win over the labels that it has."""

class ApproveOperator(_ComponentOperator[ApproveConfig]):
    """Ask a person before the promotion, with the gate's report: approve, or reject with a reason."""

class BuildDatasetOperator(_ComponentOperator[BuildDatasetConfig]):
    """Make a dataset of a table with Spark: checked, deduplicated, split; refused rows keep their reason."""

class CompressOperator(_ComponentOperator[CompressConfig]):
    """Find the smallest or fastest model that keeps a budget: distil, prune and quantise in one step."""

class DecideOperator(_ComponentOperator[DecideConfig]):
    """Decide on every row of a table by a rule set, and say why: in process, or with Spark."""

class DeltaTableOperator(_ComponentOperator[DeltaTableConfig]):
    """A Delta table as it stands now: later steps read exactly this version."""

class DeployOperator(_ComponentOperator[DeployConfig]):
    """Have a running service (modelmill serve) answer with the champion, and wait until it does."""

class DistillOperator(_ComponentOperator[DistillConfig]):
    """Distil a student with fewer layers out of a teacher, or an image encoder with fewer stages."""

class DistillSignalsOperator(_ComponentOperator[DistillSignalsConfig]):
    """Distil one small student out of several teachers: a trunk with a head for each teacher's label."""

class EvaluateOperator(_ComponentOperator[EvaluateConfig]):
    """Measure models side by side on the test split: quality with confidence intervals, size, throughput."""

class ExtractFramesOperator(_ComponentOperator[ExtractFramesConfig]):
    """Extract frames: some of each shot, as small JPEG pictures with perceptual hashes."""

class FindDuplicateVideosOperator(_ComponentOperator[FindDuplicateVideosConfig]):
    """Find near-duplicate videos: encoded again, resized, brighter, with borders, cropped by up to 20 %."""

class FineTuneOperator(_ComponentOperator[FineTuneConfig]):
    """Fine-tune a pretrained encoder on a dataset: the large model, the teacher."""

class GateOperator(_ComponentOperator[GateConfig]):
    """Compare a challenger with the champion, its parent and the baselines on the same test rows."""

class GateRulesOperator(_ComponentOperator[GateRulesConfig]):
    """Compare a rule set with the champion on a table: it is refused where decisions change too much."""

class GuardOperator(_ComponentOperator[GuardConfig]):
    """Find champions that did not come through the gate, moves left half-done, and damaged files."""

class ImportOnnxOperator(_ComponentOperator[ImportOnnxConfig]):
    """Make a model of an ONNX file from elsewhere: a classifier of images with its own preprocessing."""

class IngestOperator(_ComponentOperator[IngestConfig]):
    """Load files into a Delta table with Spark, each file exactly once (as COPY INTO does)."""

class LabelByLlmOperator(_ComponentOperator[LabelByLlmConfig]):
    """Label rows with a language model, within a budget that holds; gold labels check and win."""

class LabelRowsOperator(_ComponentOperator[LabelRowsConfig]):
    """Label rows by rules with Spark: functions vote, a model weighs the votes, gold labels check and win."""

class MakeDefectsOperator(_ComponentOperator[MakeDefectsConfig]):
    """Make labelled clips of clean ones by known transformations: blur, borders, slides and others."""

class MeasureVideosOperator(_ComponentOperator[MeasureVideosConfig]):
    """Measure videos: sharpness, exposure, borders, frozen and black stretches, slideshows, sound."""

class MonitorOperator(_ComponentOperator[MonitorConfig]):
    """Compare a scored table with the training data: drift of each column and of the scores, and quality."""

class PickSignalOperator(_ComponentOperator[PickSignalConfig]):
    """Take one signal's model out of many: for a gate, an evaluation or a scored table of its own."""

class ProbeVideosOperator(_ComponentOperator[ProbeVideosConfig]):
    """Read what the videos of a table say of themselves: container, streams, packets, subtitles."""

class PromoteOperator(_ComponentOperator[PromoteConfig]):
    """Register a challenger that passed the gate and make it the champion; a refused one changes nothing."""

class PruneOperator(_ComponentOperator[PruneConfig]):
    """Take the units that matter least out of a model, and let what stays learn from a teacher again."""

class QuantizeOperator(_ComponentOperator[QuantizeConfig]):
    """Quantise a model: the file that serves, in ONNX Runtime, or on a GPU in PyTorch."""

class RankLabelErrorsOperator(_ComponentOperator[RankLabelErrorsConfig]):
    """List the rows whose label is probably wrong, the most suspicious first (confident learning)."""

class ReadTextInFramesOperator(_ComponentOperator[ReadTextInFramesConfig]):
    """Read the text in frames of videos by OCR: texts with their boxes and times, a frame of each shot."""

class ReplaceTrunkOperator(_ComponentOperator[ReplaceTrunkConfig]):
    """Judge new heads, trained together on a new trunk, each beside the champion of its registered model."""

class ReportVideosOperator(_ComponentOperator[ReportVideosConfig]):
    """Make a page with pictures of what was decided on videos: what was refused, why, and where."""

class ScoreTableOperator(_ComponentOperator[ScoreTableConfig]):
    """Score every row of a table with a model; a row without a text, or a readable image, gets null."""

class SignalStudentsOperator(_ComponentOperator[SignalStudentsConfig]):
    """Make a static student of each model signal of a rule set: what tier_rules asks first."""

class TeachTrunkOperator(_ComponentOperator[TeachTrunkConfig]):
    """Train an encoder on the labels of any number of datasets at once, with a head for each of them."""

class TierRulesOperator(_ComponentOperator[TierRulesConfig]):
    """Ask cheap models first, as far as a budget allows: decided on rows that no model has seen."""

class TrainHeadsOperator(_ComponentOperator[TrainHeadsConfig]):
    """Train one small head for each label column on a trunk, all in one pass; each becomes its own model."""

class TrunkOperator(_ComponentOperator[TrunkConfig]):
    """Make a trunk: the encoder that many signals share, exported once. Its heads come from train_heads."""

class TryRulesOperator(_ComponentOperator[TryRulesConfig]):
    """Try a rule set on a table: what each rule does, and what changes. Nothing is acted on."""

class UseChampionOperator(_ComponentOperator[UseChampionConfig]):
    """Take the model that is in use, and the dataset that it learned from: a pipeline need not train it."""
