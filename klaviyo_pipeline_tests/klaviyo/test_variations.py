"""Which errors mean that the listing of messages does not include variations."""

from __future__ import annotations

from typing import cast

import pytest

from klaviyo_pipeline.klaviyo.errors import BadRequest
from klaviyo_pipeline.klaviyo.origin import Origin
from klaviyo_pipeline.klaviyo.sender import Sender
from klaviyo_pipeline.klaviyo.variations import VARIATIONS, VariationReader

NAMED = f"'{VARIATIONS}' is not a valid include."


@pytest.mark.parametrize(
    ("pointer", "detail", "refused"),
    [
        ("include", "Invalid input.", True),
        ("/include", "Invalid input.", True),
        (None, NAMED, True),
        (None, "Invalid filter.", False),
        ("filter", "Invalid filter.", False),
    ],
)
def test_a_refused_include_is_recognized(pointer: str | None, detail: str, refused: bool) -> None:
    variations = VariationReader(cast(Sender, None), cast(Origin, None))
    error = BadRequest("refused", detail=detail, pointer=pointer)
    assert variations.is_refusal(error, variations.include) == refused
    assert (VARIATIONS in variations.include) != refused
    assert not variations.is_refusal(error, ("campaign",))
