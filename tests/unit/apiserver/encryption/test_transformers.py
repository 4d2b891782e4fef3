"""Ciphers: what they write they read, and nothing that another key wrote, or that is damaged."""

from __future__ import annotations

import base64

import pytest

from kybern.apiserver.encryption.transformers import AesCbc, AesGcm, CannotDecrypt, Identity, Secretbox, Transformer

KEY = "/registry/secrets/default/a"
VALUE = b'{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"dg=="}}'
MAKERS = (AesGcm, AesCbc, Secretbox)


def made(number: int, name: str = "key1") -> tuple[Transformer, ...]:
    return tuple(make(name, bytes([number]) * 32) for make in MAKERS)


@pytest.mark.parametrize("one", made(1), ids=lambda t: type(t).__name__)
def test_what_is_written_is_read_and_shows_nothing(one: Transformer) -> None:
    written = one.encrypt(VALUE, KEY)
    assert written.startswith(one.prefix)
    assert b"Secret" not in written
    assert one.decrypt(written, KEY) == VALUE
    assert one.encrypt(VALUE, KEY) != written, "the same nonce twice"


@pytest.mark.parametrize(("one", "other"), list(zip(made(1), made(2), strict=True)), ids=lambda t: type(t).__name__)
def test_another_key_of_the_same_name_reads_nothing(one: Transformer, other: Transformer) -> None:
    for _ in range(300):  # padding of AES-CBC fits by chance once in 256
        with pytest.raises(CannotDecrypt):
            other.decrypt(one.encrypt(VALUE, KEY), KEY)


@pytest.mark.parametrize("one", made(1), ids=lambda t: type(t).__name__)
def test_a_value_cut_anywhere_is_refused(one: Transformer) -> None:
    written = one.encrypt(VALUE, KEY)
    for end in range(len(one.prefix), len(written)):
        with pytest.raises(CannotDecrypt):
            one.decrypt(written[:end], KEY)


@pytest.mark.parametrize("one", (AesGcm("k", bytes(16)), Secretbox("k", bytes(32))), ids=lambda t: type(t).__name__)
def test_a_flipped_bit_is_noticed(one: Transformer) -> None:
    written = one.encrypt(VALUE, KEY)
    for at in range(len(one.prefix), len(written)):
        torn = bytearray(written)
        torn[at] ^= 0x10
        with pytest.raises(CannotDecrypt):
            one.decrypt(bytes(torn), KEY)


def test_a_value_moved_to_another_place_is_refused_by_aesgcm() -> None:
    one = AesGcm("key1", bytes(32))
    with pytest.raises(CannotDecrypt):
        one.decrypt(one.encrypt(VALUE, KEY), "/registry/secrets/kube-system/a")


def test_identity_reads_no_ciphertext() -> None:
    assert Identity().decrypt(VALUE, KEY) == VALUE
    with pytest.raises(CannotDecrypt):
        Identity().decrypt(b"k8s:enc:aesgcm:v1:key1:x", KEY)


# Written into etcd by a kube-apiserver 1.36 that stores JSON, with a key of 32 ones.
RECORDED = (
    (
        AesGcm,
        "/registry/secrets/default/a",
        (
            "azhzOmVuYzphZXNnY206djE6a2V5MTpgr+Exa7Gxkq9mG7mV8RcvS8wZgGfVdH3N08EKwVNoTpJL9a/X7+ZupJ3ObIuVoUUEsnr3"
            "5v40Xb5Ihx37i8YFXUabRelBzib5iYN6Mrk+saX9PzRFeq5PZqDQ1/hbZ4dT3OV/oosTO9nplOGsFtvdrqW6MGpfPzkeHTUm/+Lz"
            "sYhEdr1Hngk7egedXG4xsq9sXcgtZ4ZlGJM75Ose06C9tTrux5Yov73zoQ9G6jQWkxgMVCTczD/qQlYo9iDHgsQqn0gA5H7iI8eH"
            "ZrKQR7xppZ7rVHFxb624beKHJLGH8QsyzAuRL0gF5l7InXpFHxS7KJzQ/0EzAnRvMAIdezPror1iwRt0JlYkw32e8GlVbcWe9DNZ"
            "/QzmvqVJC1IMiH0OZ/XSXfEEBv/QVR0kubdxc0qnSt5VSu05+h7zVzPrVoBR/vkga5XzMQ/EY9wqMv3ovGe3YR8d9BkoPI9flQ90"
            "gD6jbTChE04itfyF0bJ/EC+Zkzr9vlMwPhocvWp093qyOuy/6EX4X9qPjDXUMT+8x7Uo9aDcqIb3EAoXqb9i+8hjShZSpqQnzwA="
        ),
    ),
    (
        AesCbc,
        "/registry/configmaps/default/a",
        (
            "azhzOmVuYzphZXNjYmM6djE6a2V5MToOMNwrhFkYoal2IK2106G5RzFc8hrqGgGXJpV31l6YXeyqJylgQBaGowPNOS5VHiavP92E"
            "2r2RDdGYiMtU9R4sQGrKWY19qOF0WaPMPZo8h0w/fIXlZD+y1UILqjzfsoKUmknzJDbcRJ/exEzSAJby/AZ1m5gE3ppCgVn+ktOb"
            "RwXBlR8kXJVRVnj7iw8Z4M3MLcKtXwLIR7Zr/4OU9iE7cq5gyZOF9XSS7/xignmwyIZvaj8q9FHo2UOPDJvcAbcicqsnnW7IJ6z/"
            "ePu3sstGfkWyI61XvyL1T6DED7Wav6J2eBFUAVcdsxTeiIm5QMM2vDYUj+GM+BpNFQgvic2yCDshUvutPK6BZBPeuqwc8g1qQ9cy"
            "KdULUnwBoPHLYmNVJc1Nq/foMqj0Fe5ea0ZEvmxBEPzAhu7nAai4jA2Kp5tVuD5kt96lNe4yRzqogFydllUFv23s20UTkdihNvTr"
            "LrTYqTMkYitn56CW8Ywdvy1bHh8wn7NzqqFG15HodX2qgochz+Qc7Kcz5zzMhEp/"
        ),
    ),
    (
        Secretbox,
        "/registry/serviceaccounts/default/a",
        (
            "azhzOmVuYzpzZWNyZXRib3g6djE6a2V5MTqHnJ/OOTJoeLSfsrhwzEyv7j485PCQoVW6wQVgCiTgBNP0k9nTxgvZxNaHxDDuHuBr"
            "5daYcM2mGo6wyhfg/U5ZW1GrtGVnApg3NN7bfhCzNx8tnVd328vr5hl7J3R9Sznl3x2PTvPBxdhwylS09gJ9Nwc2FT1VgT7EBkbC"
            "wdHknmCkrCIZo7cdTXkSkvJ8h1bxMCsfW3QsYhwQmgdU0akKuJ97HhjL9nbfKpFXZZoOFfTsi045+DYkL/IHFGCn2ztIt3qQahLv"
            "CyltW08Q0eg1zpCjTZ9unB6fOw=="
        ),
    ),
)


@pytest.mark.parametrize(("make", "key", "value"), RECORDED)
def test_values_of_an_upstream_server_are_read(make: type, key: str, value: str) -> None:
    one = make("key1", b"\x01" * 32)
    assert one.decrypt(base64.b64decode(value), key).startswith(b'{"kind":')
