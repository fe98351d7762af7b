# Generated messages have no static types; convert.py turns them into the model's.
from typing import Any

def __getattr__(name: str) -> Any: ...
