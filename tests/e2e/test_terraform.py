"""contrib/terraform with the real terraform, where there is one: made, changed, missed, made anew, replaced, gone."""
import os
import pathlib
import shutil
import subprocess

import pytest

MODULES = pathlib.Path(__file__).resolve().parents[2] / "contrib/terraform"
TERRAFORM = shutil.which("terraform")


@pytest.fixture
def terraform(mere, project, tmp_path):
    if not TERRAFORM:
        pytest.skip("there is no terraform here")
    shutil.copytree(MODULES / "curl", tmp_path / "curl")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    env = {**kept, "MERE_API_KEY": mere.key, "TF_HTTP_PASSWORD": mere.key, "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull,
           "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "TF_VAR_api_url": mere.api_url, "TF_VAR_project": project.id, "TF_VAR_name": "declared"}

    def run(*words, expect=0, **variables):
        got = subprocess.run([TERRAFORM, f"-chdir={tmp_path / 'curl'}", *words], env={**env, **{f"TF_VAR_{k}": v for k, v in variables.items()}},
                             capture_output=True, text=True, timeout=120, check=False)
        assert got.returncode == expect, got.stdout + got.stderr
        return got.stdout + got.stderr

    run("init", "-no-color", "-backend=false")
    run.state = tmp_path / "curl" / "terraform.tfstate"
    return run


def apply(terraform, *words, **variables):
    return terraform("apply", "-no-color", "-auto-approve", *words, **variables)


def plan(terraform, expect, **variables):
    return terraform("plan", "-no-color", "-detailed-exitcode", expect=expect, **variables)


def branch_of(project, name="declared"):
    return next((b for b in project.branches() if b["name"] == name), None)


def test_the_life_of_a_branch(mere, project, terraform):
    apply(terraform)
    made = branch_of(project)
    uri = terraform("output", "-raw", "connection_uri")
    assert terraform("output", "-raw", "id") == made["id"] and uri.startswith("postgresql://")
    got = subprocess.run(["psql", "-XAtc", "SELECT 1", uri], capture_output=True, text=True, check=True)
    assert got.stdout == "1\n"
    plan(terraform, 0)  # nothing to do
    # What can change changes where it is.
    plan(terraform, 2, ttl_seconds="3600")
    apply(terraform, ttl_seconds="3600", labels='{"pr":"12"}')
    now = branch_of(project)
    assert now["id"] == made["id"] and "expires_at" in now
    plan(terraform, 0, ttl_seconds="3600", labels='{"pr":"12"}')
    apply(terraform)
    assert branch_of(project)["id"] == made["id"] and "expires_at" not in branch_of(project)
    # Deleted by somebody else: the plan says so, and it is made anew on demand.
    project.call("DELETE", "/branches/declared?wait=ready")
    assert "is gone" in plan(terraform, 2)
    apply(terraform, "-replace=terraform_data.spec")
    again = branch_of(project)
    assert again["id"] != made["id"] and terraform("output", "-raw", "id") == again["id"]
    plan(terraform, 0)
    # Another parent is another branch.
    project.call("PUT", "/branches/stem?wait=ready", {})
    apply(terraform, parent="stem")
    assert branch_of(project)["parent_id"] == branch_of(project, "stem")["id"]
    terraform("destroy", "-no-color", "-auto-approve", parent="stem")
    assert branch_of(project) is None and mere.key not in terraform.state.read_text()


def test_what_is_gone_already_does_not_stop_the_end(project, terraform):
    apply(terraform)
    project.call("DELETE", "/branches/declared?wait=ready")
    terraform("destroy", "-no-color", "-auto-approve")
    assert branch_of(project) is None


def test_what_cannot_be_is_told(mere, project, terraform):
    assert "stands in a URL" in terraform("apply", "-no-color", "-auto-approve", expect=1, name="Not/This")
    told = terraform("apply", "-no-color", "-auto-approve", expect=1, parent="nowhere")
    assert "branch not found" in told and mere.key not in told
    assert branch_of(project) is None
    assert "422" in terraform("apply", "-no-color", "-auto-approve", expect=1, ttl_seconds="0") or branch_of(project) is None
