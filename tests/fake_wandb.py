"""What seqbench uses of the package wandb, as a server that knows some runs would have it."""

import types


class FakeConfig(dict):
    def update(self, values, allow_val_change=False):
        assert allow_val_change or not self
        super().update(values)


class FakeRun:
    def __init__(self, given, starting_step):
        self.given, self.logged, self.summary, self.artifacts = given, [], {}, []
        self.config, self.tags = FakeConfig(), given.get("tags", ())
        self.starting_step = starting_step if given.get("resume") == "allow" else 0
        self.preempting, self.exit_code = False, None

    def log(self, values, step):
        assert not self.logged or step >= self.logged[-1][0], "steps have to rise"
        assert step >= self.starting_step, "the server has this step"
        self.logged.append((step, values))

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def mark_preempting(self):
        self.preempting = True

    def finish(self, exit_code):
        self.exit_code = exit_code


class FakeArtifact:
    def __init__(self, name, **more):
        self.name, self.more, self.files = name, more, []

    def add_file(self, path, name):
        self.files.append((path, name))


class FakeWandb(types.ModuleType):
    """The package; its server has every run up to a step."""

    Artifact = FakeArtifact

    def __init__(self, starting_step=0):
        super().__init__("wandb")
        self.runs, self.starting_step = [], starting_step

    def init(self, **given):
        self.runs.append(FakeRun(given, self.starting_step))
        return self.runs[-1]

    def teardown(self):
        assert self.runs[-1].exit_code is not None, "a run is finished first"

    @staticmethod
    def Settings(**given):  # noqa: N802 (its name there)
        return given
