"""The life of a cloud recording, up to the files that can be fetched."""

from __future__ import annotations

from typing import Any

from zoomrelay.simulator.stage import Stage, Story


def recording(stage: Stage) -> Story:
    """Started, paused now and then, stopped, completed; often with a transcript later."""
    scene = _Recording(stage)
    yield scene.running("recording.started")
    if stage.chance(0.4):
        yield scene.running("recording.paused")
        yield scene.running("recording.resumed")
    yield scene.running("recording.stopped", recording_end=stage.time())
    yield scene.ready("recording.completed", [("MP4", "mp4", "shared_screen"), ("M4A", "m4a", "audio_only")])
    if stage.chance(0.6):
        yield scene.ready("recording.transcript_completed", [("TRANSCRIPT", "vtt", "audio_transcript")])


class _Recording:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        host = stage.person()
        self._start = stage.time()
        self._object: dict[str, object] = {
            "id": stage.digits(10),
            "uuid": stage.uuid(),
            "host_id": host.id,
            "host_email": host.email,
            "account_id": stage.account_id,
            "topic": f"Recorded meeting of {host.name} / planning",
            "type": 2,
            "start_time": self._start,
            "timezone": "Europe/Amsterdam",
            "duration": stage.random.randint(1, 90),
        }

    def running(self, name: str, **more: object) -> dict[str, Any]:
        file = {"recording_start": self._start, "recording_end": "", **more}
        return self._stage.event(name, self._object | {"recording_file": file})

    def ready(self, name: str, kinds: list[tuple[str, str, str]]) -> dict[str, Any]:
        """With the secret `download_token` beside the payload, as Zoom sends it."""
        files = [self._file(*kind) for kind in kinds]
        object_ = self._object | {
            "share_url": f"https://zoom.example.com/rec/share/{self._stage.id(64)}",
            "total_size": sum(file["file_size"] for file in files),
            "recording_count": len(files),
            "recording_files": files,
        }
        return self._stage.event(name, object_) | {"download_token": self._stage.id(180)}

    def _file(self, type_: str, extension: str, recording_type: str) -> dict[str, Any]:
        id_ = self._stage.id(36)
        return {
            "id": id_,
            "meeting_id": self._object["uuid"],
            "recording_start": self._start,
            "recording_end": self._stage.time(),
            "file_type": type_,
            "file_size": self._stage.digits(8),
            "file_extension": extension.upper(),
            "download_url": f"https://zoom.example.com/rec/webhook_download/{self._stage.id(80)}.{extension}",
            "status": "completed",
            "recording_type": recording_type,
        }
