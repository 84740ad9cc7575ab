"""Canaries: secrets that a deployment has reach no log, error, link or MLflow run."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from modelmill.cli.run_summary import mlflow_hint
from modelmill.component import StepContext
from modelmill.errors import ModelmillError, TableError
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.step_process import StepProcess
from modelmill.redaction import is_secret_name, redacted, secret_values
from modelmill.registry.tracking import run_url
from modelmill.settings import MODEL_TRAINING, Settings
from modelmill.tables.source_files import list_files
from modelmill.tables.storage import table_location

CANARY = "canary-7f3a9"


@pytest.mark.parametrize(
    "text",
    [
        f"https://bob:{CANARY}@ml.example/x is down, https://bob:{CANARY}@ml.example too",
        f"https://{CANARY}@ml.example",
        f"postgresql+psycopg2://airflow:{CANARY}@db/airflow",
        f"password={CANARY}, user=bob",
        f"{{'options': {{'password': '{CANARY}'}}}}",
        f'{{"aws_secret_access_key": "{CANARY}"}}',
        f"a=b=password={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"https://store.example/f?sv=1&sig={CANARY}&se=2",
        f"AccountName=me;AccountKey={CANARY};Suffix=x",
        f"https://bucket.example/x?X-Amz-Date=1&X-Amz-Signature={CANARY}",
        f"Authorization: Token {CANARY}",
        f"password  =  {CANARY}",
        f"password:\n    {CANARY}",
        f'{{\\"password\\": \\"{CANARY}\\"}}',
        f"curl --password {CANARY} https://x",
        f"modelmill up --api-key '{CANARY}'",
        f"the header was Bearer {CANARY}9",
        f"SharedAccessSignature={CANARY}",
        f"https://store.example/f?sas={CANARY}",
        f"fs.azure.account.key.lake.dfs.core.windows.net={CANARY}",
        f"{{'fs.azure.sas.fixed.token.lake': '{CANARY}'}}",
        f"Cookie: a=1; session={CANARY}",
        f"{{'password': b'{CANARY}'}}",
        f"postgresql://bob:slash/{CANARY}@db/x",
        f"a text that was cut off in the middle: {{'token': '{CANARY}",
    ],
)
def test_a_secret_in_a_text_is_hidden(text: str) -> None:
    assert CANARY not in redacted(text, secrets=())
    assert "***" in redacted(text, secrets=())


@pytest.mark.parametrize(
    "text",
    [
        "abfss://lake@account.dfs.core.windows.net/t: 3 rows, max_tokens=32, step_key=abc, mail me@x.org",
        "tokens: 5; key: id; the token must be good; s3://lake/tables@12",
        "models:/topics@champion and runs:/abc/gate/verdict.json",
        "http://127.0.0.1:5000/#/experiments/3?x=a@b and http://mill:80/t@12, s3://lake/x",
        "basic authentication, a bearer certificate, --max-tokens 32, --token-file /keys/one, cookies: 3",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redacted(text, secrets=()) == text


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    variables = {
        "MLFLOW_TRACKING_TOKEN": "one-secret",
        "MLFLOW_TRACKING_URI": "https://bob:two-secret@ml.example",
        "MODELMILL_PARAM_DB_PASSWORD": "three-secret",
        "AIRFLOW_CONN_LAKE": "aws://four-secret",
        "MODELMILL_LLM_KEY": "five-secret",
        "MODELMILL_SIGNING_KEY": "/keys/model.pem",
        "AWS_ACCESS_KEY_ID": "an-id-is-none",
        "PGPASSWORD": "six-secret",
        "DB_PASS": "seven-secret",
        "SENTRY_DSN": "eight-secret",
        "SLACK_WEBHOOK_URL": "nine-secret",
        "DB_PASSWORD": "short",
        "HOME": "/home/bob",
        "PWD": "/home/bob/work",
        "OLDPWD": "/home/bob/before",
    }
    found = secret_values(variables)
    assert set(found) == {
        "one-secret",
        "two-secret",
        "three-secret",
        "aws://four-secret",
        "five-secret",
        "six-secret",
        "seven-secret",
        "eight-secret",
        "nine-secret",
    }
    assert redacted("got 'one-secret' or two-secret", secrets=found) == "got '***' or ***"
    assert not is_secret_name("max_tokens")
    assert is_secret_name("options.password")


def test_a_known_secret_is_hidden_as_urls_and_json_have_it() -> None:
    secret = 'p@ss "word"/9\u00e9'
    for shown in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps({"a": secret})):
        assert "***" in redacted(f"got {shown} here", secrets=(secret,))
        assert "word" not in redacted(f"got {shown} here", secrets=(secret,))


def test_an_error_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET", CANARY)
    error = ModelmillError(
        "the store must answer", got=f"https://u:pw@h and {CANARY}", remedy=f"not {CANARY}"
    )
    assert str(error) == "the store must answer; got 'https://***@h and ***'; not ***"


def test_mlflow_gets_no_secret_parameters(step_context: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_PARAM_DB_PASSWORD", CANARY)
    run = step_context.run
    run.log_params({"options": {"password": "pw", "sep": ";"}, "query": f"login {CANARY}", "max_tokens": 32})
    run.fail(ValueError(f"cannot log in with {CANARY}"))
    found = run.client.get_run(run.run_id).data
    assert CANARY not in str(found.params) + str(found.tags)
    assert found.params == {
        "options.password": "***",
        "options.sep": ";",
        "query": "login ***",
        "max_tokens": "32",
    }


def test_mlflow_gets_parameters_whatever_their_names_are(step_context: StepContext) -> None:
    run = step_context.run
    run.log_params({"labels": {"C++": "one", "C??": "two", "a//b": "", "é": "x", "l" * 300: "y"}})
    assert run.client.get_run(run.run_id).data.params == {
        "labels.C__": "one",
        "labels.C___2": "two",
        "labels.a__b": "",
        "labels.é": "x",
        f"labels.{'l' * 193}": "y",
    }


def test_links_have_no_credentials(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://bob:{CANARY}@ml.example/base/")
    url = Settings.from_environment().tracking_uri
    assert run_url(url, "1", "abc") == "https://ml.example/base/#/experiments/1/runs/abc" + MODEL_TRAINING
    assert mlflow_hint(Settings.from_environment()) == "Runs and models: https://***@ml.example/base/"


def test_links_of_the_operators_and_of_the_plugin_have_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from modelmill_operators.links import version_url
    from modelmill_plugin.plugin import external_views

    url = f"https://bob:{CANARY}@ml.example/base/?token={CANARY}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    page = "https://ml.example/base/#/models/topics/versions/3"
    assert version_url(url, "models:/topics/3") == page + MODEL_TRAINING
    assert [view["href"] for view in external_views()] == ["https://ml.example/base"]


def test_a_uri_with_a_password_is_refused_without_showing_it() -> None:
    for refuses in (table_location, list_files):
        with pytest.raises(TableError, match="a URI has no password in it") as caught:
            refuses(f"s3://bob:{CANARY}@lake/t")
        assert CANARY not in str(caught.value)
    assert table_location("abfss://lake@account.dfs.core.windows.net/t/").endswith("/t")


def test_a_step_whose_server_does_not_answer_names_it_and_shows_no_secret(
    settings: Settings, toy_components: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:{CANARY}@127.0.0.1:9")
    monkeypatch.setenv("MODELMILL_MLFLOW_REPLY", "1")
    monkeypatch.setenv("MODELMILL_MLFLOW_CALL", "1")
    config = {"journal": str(tmp_path / "journal")}
    request = StepRequest(pipeline="p", step="s", component="count", config=config)
    lines: list[str] = []
    with pytest.raises(ModelmillError) as caught:
        StepProcess(request, python=settings.python).run(lines.append)
    said = str(caught.value)
    assert "MLflow must answer" in said
    assert "http://***@127.0.0.1:9" in said
    assert CANARY not in said + "".join(lines)
