"""Proofs on disk: each request as far as it was counted, whatever happens to its handler; damage proves nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ipc.proofs import ProofWriter, RequestSlot, ServedRequest, read_segment, segments

MODEL = b"m" * 32
ALL = 2**63


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass
class Handler:
    """Serves requests in a writer, and knows what it served."""

    writer: ProofWriter
    counted: int = 0
    open: dict[int, RequestSlot] = field(default_factory=dict)
    served: dict[int, ServedRequest] = field(default_factory=dict)

    def begin(self, number: int) -> None:
        self.open[number] = self.writer.open()

    def step(self, number: int) -> None:
        self.counted += 1
        before = self.served.get(number)
        tokens = (before.tokens if before else 0) + 1
        one = ServedRequest(number, self.counted, tokens, digest(self.counted), digest(2 * self.counted))
        self.open[number].write(one.counted, one.tokens, one.input_digest, one.output_digest)
        self.served[number] = one

    def end(self, number: int) -> None:
        one = self.served[number]
        self.open.pop(number).end()
        self.served[number] = ServedRequest(
            number, one.counted, one.tokens, one.input_digest, one.output_digest, ended=True
        )


def handler(directory: Path, slots: int = 8, most: int = 4) -> Handler:
    return Handler(ProofWriter(directory, "life-1", 0, 7, MODEL, slots=slots, segments=most))


def told(directory: Path, counted: int = ALL) -> dict[int, ServedRequest]:
    """What all segments say."""
    found: dict[int, ServedRequest] = {}
    for segment in segments(directory):
        content = read_segment(segment.path, counted)
        assert content is not None
        assert content.model == MODEL
        for request in content.requests:
            assert request.number not in found
            found[request.number] = request
    return found


events = st.lists(st.sampled_from(["begin", "step", "end"]), max_size=60)


def live(one: Handler, history: list[str], data: st.DataObject) -> None:
    for event in history:
        if event == "begin":
            number = len(one.served) + 1
            one.begin(number)
            one.step(number)
        elif one.open:
            number = data.draw(st.sampled_from(sorted(one.open)))
            one.step(number) if event == "step" else one.end(number)


@given(events, st.data())
def test_what_was_written_last_of_each_request_is_what_is_read(history: list[str], data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        one = handler(Path(directory), most=100)
        live(one, history, data)
        assert told(Path(directory)) == one.served


@given(events, st.data())
def test_a_step_that_the_tally_does_not_count_is_not_told(history: list[str], data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        one = handler(Path(directory), most=100)
        live(one, [*history, "begin"], data)
        number = data.draw(st.sampled_from(sorted(one.open)))
        before = dict(one.served)
        counted = one.counted
        one.step(number)
        assert told(Path(directory), counted) == before


@given(st.integers(1, 4), st.data())
def test_a_write_that_stopped_anywhere_leaves_the_request_before_it(steps: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        one = handler(Path(directory))
        one.begin(1)
        for _ in range(steps):
            one.step(1)
        (segment,) = segments(Path(directory))
        before, earlier = segment.path.read_bytes(), one.served[1]
        one.step(1)
        after = segment.path.read_bytes()
        stopped = data.draw(st.integers(0, len(after)))
        segment.path.write_bytes(after[:stopped] + before[stopped:])
        assert told(Path(directory))[1] in (earlier, one.served[1])


@given(st.data())
def test_no_damage_tells_what_was_never_served(data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        one = handler(Path(directory))
        one.begin(1)
        one.step(1)
        first = one.served[1]
        one.step(1)
        (segment,) = segments(Path(directory))
        content = bytearray(segment.path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            # The model's digest is the one part whose damage cannot be told.
            at = data.draw(st.one_of(st.integers(0, 15), st.integers(48, len(content) - 1)))
            content[at] ^= data.draw(st.integers(1, 255))
        segment.path.write_bytes(content)
        read = read_segment(segment.path, ALL)
        assert read is None or set(read.requests) <= {first, one.served[1]}


def test_a_request_without_a_step_is_not_told(tmp_path: Path) -> None:
    one = handler(tmp_path)
    one.begin(1)
    one.open[1].end()
    assert told(tmp_path) == {}


def test_a_segment_is_done_when_it_is_full_and_all_its_requests_have_ended(tmp_path: Path) -> None:
    one = handler(tmp_path, slots=2)

    def done() -> bool:
        (first, *_) = segments(tmp_path)
        content = read_segment(first.path, ALL)
        assert content is not None
        return content.done

    for number in (1, 2, 3):
        one.begin(number)
        one.step(number)
        assert not done()
    one.end(2)
    assert not done()
    one.end(1)
    assert done()


def test_segments_are_found_in_the_order_of_their_writing(tmp_path: Path) -> None:
    one = handler(tmp_path, slots=1, most=20)
    for number in range(1, 13):
        one.begin(number)
        one.step(number)
    assert list(told(tmp_path)) == list(range(1, 13))
    assert {(segment.incarnation, segment.handler) for segment in segments(tmp_path)} == {("life-1", "handler-0-7")}


def test_segments_that_nobody_takes_over_do_not_fill_the_disk(tmp_path: Path) -> None:
    one = handler(tmp_path, slots=1, most=2)
    for number in (1, 2):
        one.begin(number)
        one.step(number)
        one.end(number)
    with pytest.raises(OSError, match="taken over"):
        one.begin(3)
    first, _ = segments(tmp_path)
    first.path.unlink()
    one.begin(3)
    one.step(3)
    assert sorted(told(tmp_path)) == [2, 3]


def test_a_deleted_segment_harms_neither_its_writer_nor_the_next(tmp_path: Path) -> None:
    one = handler(tmp_path, slots=1)
    one.begin(1)
    one.step(1)
    (segment,) = segments(tmp_path)
    segment.path.unlink()
    one.step(1)
    one.end(1)
    one.begin(2)
    one.step(2)
    assert sorted(told(tmp_path)) == [2]


def test_where_no_file_can_be_made_the_writer_says_so_and_tries_again(tmp_path: Path) -> None:
    (tmp_path / "life-1").write_text("in the way")
    one = handler(tmp_path)
    with pytest.raises(OSError, match="life-1"):
        one.begin(1)
    (tmp_path / "life-1").unlink()
    one.begin(1)
    one.step(1)
    assert sorted(told(tmp_path)) == [1]


@pytest.mark.parametrize("content", [b"PLMPROOF", b"x" * 1000, b"PLMPROOF\x01\0\0\0\xff\xff\xff\xff"])
def test_a_file_that_is_no_segment_tells_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "proofs-0-1-1"
    path.write_bytes(content)
    assert read_segment(path, ALL) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 1000])
def test_a_segment_that_was_never_finished_has_no_requests(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "proofs-0-1-1"
    path.write_bytes(content)
    read = read_segment(path, ALL)
    assert read is not None
    assert (read.requests, read.done) == ((), False)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "life-1").mkdir()
    for name in ("proofs-0-1", "proofs-0-1-1.old", "handler-0-1.tally", "x-proofs-0-1-1"):
        (tmp_path / "life-1" / name).write_bytes(b"")
    assert list(segments(tmp_path)) == []
    assert list(segments(tmp_path / "absent")) == []


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    one = handler(tmp_path)
    one.begin(1)
    (segment,) = segments(tmp_path)
    assert segment.path.stat().st_mode & 0o777 == 0o600
