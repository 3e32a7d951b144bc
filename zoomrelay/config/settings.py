"""The configuration of a running relay, as pydantic-settings has it.

Apart from `models`: importing pydantic-settings takes a tenth of a second, which commands that answer at
once (`zoomrelay token`) do without.
"""

from __future__ import annotations

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from zoomrelay.config.models import Config


class RelaySettings(Config, BaseSettings):
    """A pydantic-settings object whose only source is what it is given: `load` has read the four places
    already, with the origin of each value, and nothing else of the process's surroundings may slip in.
    Programs that embed the relay may subclass it with sources of their own.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)
