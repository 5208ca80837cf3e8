"""Files of tasks/ that hold no task, but what several of them share."""

SHARED_BY_TASKS = {
    "hourly",
    "language",
    "pixels",
    "python_source",
    "recordings",
    "scoring",
    "strings",
    "task",
    "word_labelling",
}
