"""Two projects go through files and jobs in any order; a small model says what each answer must be.

`fuzzing` sends single requests, whatever came before; here what came before decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from httpx import Response
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.db import database_now
from core.queue import claim_job, succeed_attempt
from tests.api.conftest import JOBS, ROWS, Site, jsonl

ACTIONS = ("cancel", "pause", "resume", "retry", "delete")
OPEN = ("queued", "paused")
BECOMES = {
    ("queued", "pause"): "paused",
    ("paused", "resume"): "queued",
    ("queued", "cancel"): "cancelled",
    ("paused", "cancel"): "cancelled",
    # Twice is as good as once.
    ("paused", "pause"): "paused",
    ("cancelled", "cancel"): "cancelled",
}
"""What is not here is refused; `retry` and `delete` are told apart below."""
PROJECTS = st.integers(0, 1)
ANY = st.integers(0, 2**16)


@dataclass
class Count:
    """How far journeys went."""

    requests: int = 0
    carried_out: int = 0


@dataclass
class Known:
    """What a job must look like."""

    project: int
    file: str
    status: str = "queued"
    retry_of: str | None = None


@dataclass
class World:
    """What there must be on the server, all made by these two keys."""

    files: dict[str, int] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    jobs: dict[str, Known] = field(default_factory=dict)

    def needs(self, file: str) -> bool:
        """Whether an open job is to train on a file."""
        return any(job.file == file and job.status in OPEN for job in self.jobs.values())

    def is_retried(self, job_id: str) -> bool:
        """Whether an open job goes on from this one."""
        return any(job.retry_of == job_id and job.status in OPEN for job in self.jobs.values())


def travel(
    site: Site, keys: tuple[str, str], *, journeys: int, steps: int, start: int | None = None
) -> Count:
    """So many journeys of so many steps; AssertionError with the steps of one that went wrong."""
    count = Count()

    class Journey(_Journey):
        def __init__(self) -> None:
            super().__init__(site, keys, count)

    run_state_machine_as_test(
        Journey if start is None else seed(start)(Journey),
        settings=settings(
            max_examples=journeys,
            stateful_step_count=steps,
            derandomize=start is None,
            database=None,
            deadline=None,
            # A journey that went wrong tells its steps; to shorten it takes many others.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return count


class _Journey(RuleBasedStateMachine):
    def __init__(self, site: Site, keys: tuple[str, str], count: Count) -> None:
        super().__init__()
        self._site, self._keys, self._count = site, keys, count
        self._world = World()

    @initialize()
    def begin(self) -> None:
        for project in (0, 1):
            self.upload(project)

    @rule(project=PROJECTS)
    def upload(self, project: int) -> None:
        # Each is another file: the same content twice would be one on disk.
        content = ROWS + jsonl({"text": f"{project} {len(self._world.files)}"})
        answer = self._ask(
            project, "POST", "/v1/files", data={"purpose": "fine-tune"}, files={"file": content}
        )
        self._world.files[self._taken(answer)["id"]] = project

    @rule(project=PROJECTS, which=ANY)
    def submit(self, project: int, which: int) -> None:
        world = self._world
        file = _pick([*world.files, *world.gone], which)
        body = {"model": "local/tiny", "training_file": file}
        answer = self._ask(project, "POST", JOBS, json=body)
        if world.files.get(file) != project:
            _refused(answer, 404, "file_not_found")
            return
        job = self._taken(answer)
        assert job["status"] == "queued"
        world.jobs[job["id"]] = Known(project, file)

    @precondition(lambda self: self._world.jobs)
    @rule(project=PROJECTS, which=ANY, action=st.sampled_from(ACTIONS))
    def change(self, project: int, which: int, action: str) -> None:
        job_id = _pick(list(self._world.jobs), which)
        job = self._world.jobs[job_id]
        verb, path = ("DELETE", "") if action == "delete" else ("POST", f"/{action}")
        answer = self._ask(project, verb, f"{JOBS}/{job_id}{path}")
        if job.project != project:
            _refused(answer, 404, "job_not_found")
        elif action == "delete":
            self._expect_deleted(answer, job_id)
        elif action == "retry":
            self._expect_retried(answer, job_id)
        elif (job.status, action) in BECOMES:
            job.status = BECOMES[job.status, action]
            assert self._taken(answer)["status"] == job.status
        else:
            _refused(answer, 400, "invalid_state")

    @rule(which=ANY, project=PROJECTS)
    def forget_file(self, which: int, project: int) -> None:
        world = self._world
        if not world.files:
            return
        file = _pick(list(world.files), which)
        answer = self._ask(project, "DELETE", f"/v1/files/{file}")
        if world.files[file] != project:
            _refused(answer, 404, "file_not_found")
        elif world.needs(file):
            _refused(answer, 400, "invalid_state")
        else:
            assert self._taken(answer)["deleted"]
            del world.files[file]
            world.gone.append(file)

    @rule()
    def train(self) -> None:
        """A worker takes the next job and ends it well."""
        queued = {job_id for job_id, job in self._world.jobs.items() if job.status == "queued"}
        with self._site.database.write() as session:
            now = database_now(session)
            claimed = claim_job(session, worker="worker-1", now=now, lease_seconds=60)
            if claimed is None:
                assert not queued
                return
            lease = claimed[1]
            assert lease.job_id in queued
            succeed_attempt(session, lease, now=now, trained_tokens=1, peak_memory_bytes=None)
        self._world.jobs[lease.job_id].status = "succeeded"

    @invariant()
    def each_sees_its_own(self) -> None:
        for project in (0, 1):
            answer = self._ask(project, "GET", f"{JOBS}?limit=100").json()
            seen = {job["id"]: job["status"] for job in answer["data"]}
            own = {
                job_id: job.status
                for job_id, job in self._world.jobs.items()
                if job.project == project
            }
            assert seen == own

    def teardown(self) -> None:
        """Leave nothing, for the next journey of the same server."""
        for job_id, job in reversed(self._world.jobs.items()):
            if job.status in OPEN:
                self._ask(job.project, "POST", f"{JOBS}/{job_id}/cancel")
        for job_id, job in reversed(self._world.jobs.items()):
            self._ask(job.project, "DELETE", f"{JOBS}/{job_id}")
        for file, project in self._world.files.items():
            self._ask(project, "DELETE", f"/v1/files/{file}")

    def _expect_deleted(self, answer: Response, job_id: str) -> None:
        if self._world.jobs[job_id].status in OPEN or self._world.is_retried(job_id):
            _refused(answer, 400, "invalid_state")
            return
        assert self._taken(answer)["deleted"]
        del self._world.jobs[job_id]

    def _expect_retried(self, answer: Response, job_id: str) -> None:
        job = self._world.jobs[job_id]
        if job.status != "cancelled":
            _refused(answer, 400, "invalid_state")
        elif job.file not in self._world.files:
            _refused(answer, 404, "file_not_found")
        else:
            made = self._taken(answer)["id"]
            self._world.jobs[made] = Known(job.project, job.file, retry_of=job_id)

    def _ask(self, project: int, verb: str, path: str, **body: object) -> Response:
        self._count.requests += 1
        headers = {"authorization": f"Bearer {self._keys[project]}"}
        ask: Callable[..., Response] = self._site.client.request
        answer = ask(verb, path, headers=headers, **body)
        assert answer.status_code < 500, answer.text
        return answer

    def _taken(self, answer: Response) -> dict[str, str]:
        assert answer.status_code == 200, answer.text
        self._count.carried_out += 1
        found: dict[str, str] = answer.json()
        return found


def _pick(items: list[str], which: int) -> str:
    return items[which % len(items)]


def _refused(answer: Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
