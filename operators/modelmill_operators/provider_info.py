"""What Airflow's provider discovery reads. Imports nothing: discovery runs before Airflow is configured."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata."""
    return {
        "package-name": "modelmill",
        "name": "modelmill",
        "description": "From Delta tables to small models, and from small models to explained decisions.",
        "operators": [
            {
                "integration-name": "modelmill",
                "python-modules": [
                    "modelmill_operators.operators",
                    "modelmill_operators.rollback",
                    "modelmill_operators.step",
                ],
            },
        ],
        "triggers": [
            {
                "integration-name": "modelmill",
                "python-modules": [
                    "modelmill_operators.reuse",
                    "modelmill_operators.triggers",
                    "modelmill_operators.waiting",
                ],
            },
        ],
        "extra-links": [
            "modelmill_operators.links.MlflowRunLink",
            "modelmill_operators.links.RegisteredModelLink",
        ],
        "config": {
            "modelmill": {
                "description": "How pipelines that are read from files run as DAGs.",
                "options": {
                    "retries": {
                        "description": "Tries after the first one, for errors that a retry can help.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": None,
                        "default": "2",
                    },
                    "retry_delay": {
                        "description": "Seconds between two tries.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "10",
                    },
                    "ask_in_triggerer": {
                        "description": "Whether steps whose results are there already end in the triggerer.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    },
                    "fork_steps": {
                        "description": "Whether steps are forked from a process that has imported much.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "profiles": {
                        "description": "YAML file with the kinds of machines that steps may run on.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/profiles.yaml",
                        "default": "",
                    },
                    "poll_seconds": {
                        "description": "Seconds between two looks at a table that starts a pipeline.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "30",
                    },
                },
            },
        },
    }
