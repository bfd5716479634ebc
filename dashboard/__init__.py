"""auditlake's front end: a Streamlit app that reads the lake and nothing else."""
