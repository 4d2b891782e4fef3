"""Logs and last words."""

from pathlib import Path

from kybern.api.core_v1 import Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.sync import logs

POD = Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"))


def line(text, *, tag="F", stream="stdout"):
    return f"2026-01-02T03:04:05.678901234Z {stream} {tag} {text}\n"


def test_a_log_is_where_collectors_expect_it():
    assert logs.pod_directory("/var/log/pods", POD) == Path("/var/log/pods/ns_p_u")
    assert logs.relative_path("c", 3) == "c/3.log"


def test_last_words_come_from_the_file_and_else_from_the_end_of_the_log(tmp_path):
    words, log = tmp_path / "words", tmp_path / "0.log"
    words.write_text("from file")
    log.write_text(line("one") + line("tw", tag="P") + line("o", stream="stderr"))
    assert logs.read_last_words(words, log) == "from file"
    words.write_text("")
    assert logs.read_last_words(words, log) == "one\ntwo\n"
    assert logs.read_last_words(words, None) == ""
    assert logs.read_last_words(tmp_path / "missing", tmp_path / "missing too") == ""


def test_no_more_is_kept_than_a_status_takes(tmp_path):
    words, log = tmp_path / "words", tmp_path / "0.log"
    words.write_text("x" * 5000)
    assert len(logs.read_last_words(words, None)) == 4096
    words.write_text("")
    log.write_text("".join(line(f"line {n}") for n in range(100)))
    kept = logs.read_last_words(words, log)
    assert kept.startswith("line 20\n")
    assert kept.endswith("line 99\n")
    log.write_text(line("y" * 100_000))
    assert len(logs.read_last_words(words, log)) <= 2048


def test_links_name_pod_and_container_and_go_with_the_log(tmp_path):
    log, links = tmp_path / "0.log", tmp_path / "links"
    log.write_text("")
    logs.link(str(links), POD, "c", "id1", log)
    assert [p.name for p in links.iterdir()] == ["p_ns_c-id1.log"]
    assert logs.remove_dead_links(str(links)) == 0
    log.unlink()
    assert logs.remove_dead_links(str(links)) == 1
