"""What libraries print is passed on later, unless it has become an echo by then."""

import os

import pytest

from t5like.hosts import noise
from t5like.hosts.noise import Noise


def test_noise_is_held_and_then_passed_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Noise()
    os.write(held.write_end, b"a warning\n")
    assert held.take()
    held.pass_on()
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(noise, "_HELD_SECONDS", 0.0)
    held.pass_on()
    assert capfd.readouterr().err == "a warning\n"
    os.close(held.write_end)
    assert not held.take(), "nobody can say more"
    held.close()


def test_at_a_good_end_nothing_is_forgotten_and_at_a_loss_all_is(capfd: pytest.CaptureFixture[str]) -> None:
    for at_once, printed in ((True, "a warning\n"), (False, "")):
        held = Noise()
        os.write(held.write_end, b"a warning\n")
        os.close(held.write_end)
        held.take()
        if at_once:
            held.pass_on(everything=True)
        held.close()
        assert capfd.readouterr().err == printed
