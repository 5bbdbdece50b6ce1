"""The page that is served while a run goes on."""

import http.client
import threading
import time
from html import unescape
from urllib.parse import urlsplit

import pytest
from commands import QUICK, ROWS, people
from commands import run as command
from reports import make_run

from vicreg.cli import fit
from vicreg.report import watched
from vicreg.report.server import LAST_LOOK


def ask(address, path="/", method="GET", **headers):
    """Status, headers and text."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


@pytest.fixture(autouse=True)
def _nobody_is_waited_for(monkeypatch):
    monkeypatch.setattr("vicreg.report.server.LAST_LOOK", 0.0)


def test_the_page_grows_with_the_run(tmp_path):
    folder = tmp_path / "run"
    with watched(folder) as address:
        assert "about to begin" in ask(address)[2]
        make_run(folder, 40, finished=False)
        status, headers, text = ask(address)
        assert (status, "The run is unfinished" in text) == (200, True)
        assert "connect-src 'self'" in unescape(text)
        assert headers["X-Content-Type-Options"] == "nosniff"
        status, news, text = ask(address, "/news")
        assert 'id="library"' not in text  # Plotly is there already
        assert ask(address, "/news", **{"If-None-Match": news["ETag"]})[0] == 304
        make_run(tmp_path / "other", 40)
        (tmp_path / "other" / "scores.csv").rename(folder / "scores.csv")
        status, later, _ = ask(address, "/news", **{"If-None-Match": news["ETag"]})
        assert (status, later["ETag"] != news["ETag"]) == (200, True)


def test_only_this_machine_is_answered(tmp_path):
    with watched(tmp_path) as address:
        port = urlsplit(address).port
        assert address == f"http://127.0.0.1:{port}/"
        assert ask(address, Host=f"evil.example:{port}")[0] == 403  # a name that was made to lead here
        assert ask(address, Host="192.168.0.1")[0] == 403
        assert ask(address, Host=f"localhost:{port}")[0] == 200
        assert ask(address, "/../../etc/passwd")[0] == 404
        assert ask(address, "/config.yaml")[0] == 404
        assert ask(address, method="POST")[0] == 501


def test_a_port_that_is_taken_is_said(tmp_path):
    with (
        watched(tmp_path) as address,
        pytest.raises(OSError, match=r"port \d+ of 127.0.0.1 must be free to listen on; got .* Name another"),
        watched(tmp_path, urlsplit(address).port),
    ):
        pass
    with (
        pytest.raises(ValueError, match="--watch-port must lie between 0 and 65535; got 70000"),
        watched(tmp_path, 70000),
    ):
        pass


def test_who_is_looking_sees_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("vicreg.report.server.LAST_LOOK", 10 * LAST_LOOK)
    found = []
    with watched(tmp_path) as address:
        ask(address)

        def look_again():
            time.sleep(0.3)
            found.append(ask(address, "/news")[0])

        begun = time.monotonic()
        thread = threading.Thread(target=look_again)
        thread.start()
    thread.join()
    assert found == [200]
    assert time.monotonic() - begun < 10


def test_a_fit_is_watched(tmp_path, monkeypatch, capsys):
    """While it goes on its page is there; afterwards nothing listens."""
    monkeypatch.chdir(tmp_path)
    people(ROWS).to_csv("people.csv", index=False)
    seen = []
    plain = fit.workflows.fit

    def fitting(source, folder, columns, config, *, callbacks, **options):
        address = capsys.readouterr().out.split()[-1]

        def look(state):
            if state.step == 2:
                seen.append((address, ask(address)[0]))

        return plain(source, folder, columns, config, callbacks=[*callbacks, look], **options)

    monkeypatch.setattr(fit.workflows, "fit", fitting)
    assert command("fit", "people.csv", "--labels", "kind", "--watch", *QUICK) == 0
    assert [status for _, status in seen] == [200]
    with pytest.raises(ConnectionRefusedError):
        ask(seen[0][0])
