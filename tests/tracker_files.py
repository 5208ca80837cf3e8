"""What trackers have written to files, read back."""

import json


def history(records):
    """The lines of an offline run's history, as dicts."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in line.item}
        for line in of_kind(records, "history")
    ]


def of_kind(records, kind):
    return [getattr(one, kind) for one in records if one.WhichOneof("record_type") == kind]


def offline_records(path):
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record
    store.close()


def scalars(path):
    """The points of an event file in the order of writing: tag, step, value."""
    return [
        (value.tag, event.step, value.simple_value)
        for event in events(path)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def texts(path):
    """The texts of an event file by tag, in the order of writing."""
    found = {}
    for event in events(path):
        for value in event.summary.value:
            if value.tensor.string_val:
                tag = value.tag.removesuffix("/text_summary")
                found.setdefault(tag, []).append(value.tensor.string_val[0].decode())
    return found


def events(path):
    """The records of an event file: length, its checksum, the data, its checksum."""
    from tensorboardX.proto import event_pb2

    data = path.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        event = event_pb2.Event()
        event.ParseFromString(data[12 : 12 + size])
        yield event
        data = data[16 + size :]
