-- MLflow's databases beside Airflow's.
CREATE DATABASE mlflow OWNER airflow;
CREATE DATABASE mlflow_users OWNER airflow;
