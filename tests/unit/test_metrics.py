"""Requests are counted for the attempt that makes them, also those that get no answer."""

import asyncio

import httpx
import pytest

from mavedb_audit.metrics import Meter
from tasks.clients.http import AsyncClient, Client


def test_requests_without_an_answer_are_counted_wherever_they_are_made(
    unused_tcp_port: int,
) -> None:
    nobody = f"http://127.0.0.1:{unused_tcp_port}"

    def ask() -> None:
        with Client("one") as client, pytest.raises(httpx.ConnectError):
            client.get(nobody)

    async def ask_several() -> None:
        async with AsyncClient("many") as client:
            answers = await asyncio.gather(
                *(client.get(nobody) for _ in range(3)), return_exceptions=True
            )
            assert {type(answer) for answer in answers} == {httpx.ConnectError}

    ask()
    meter = Meter()
    with meter.counting():
        ask()
        asyncio.run(ask_several())
    ask()
    assert meter.usage().http_requests == {"one": {"no answer": 1}, "many": {"no answer": 3}}
