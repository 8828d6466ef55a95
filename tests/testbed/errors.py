"""The one exception that users of the test bed see: what is wrong in one line, what to do about it in another."""


class TestbedError(Exception):
    __test__ = False  # the name looks like a test class to pytest

    def __init__(self, problem, advice="", log=None):
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.log = log  # path of the log file that explains it

    def explain(self):
        lines = [f"error: {self.problem}"]
        if self.log is not None:
            lines += [f"  the end of {self.log}:"] + ["  | " + line for line in tail(self.log)]
        if self.advice:
            lines.append(f"       {self.advice}")
        return "\n".join(lines)


def tail(path, lines=15):
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 20000))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError as error:
        return [f"(cannot be read: {error})"]
