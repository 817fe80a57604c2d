"""Make many clips at once, for asyncio: python many.py "rain" "thunder" "dog barks" """

import asyncio
import sys

from soundgen import paths
from soundgen.client import AsyncClient


async def main(prompts: list[str]) -> None:
    paths.ensure_daemon()
    at_once = asyncio.Semaphore(16)  # below the daemon's client_jobs, nothing is refused

    async with AsyncClient() as client:

        async def make(prompt: str) -> None:
            async with at_once:
                clip = await client.generate(prompt, seconds=2).clip()
                print(f"{prompt}: {clip.path}")

        async with asyncio.TaskGroup() as group:
            for prompt in prompts:
                group.create_task(make(prompt))


asyncio.run(main(sys.argv[1:]))
