"""Logs of made-up entries, signed by a key of their own, and requests to cosign them."""

from base64 import b64encode
from dataclasses import dataclass, field

from pipelines.integrity import merkle, note


@dataclass
class Log:
    """A log of `fork`ed entries: two logs agree up to where their forks differ."""

    key: note.Key
    origin: str = "audit.example/okta/system_log/0123abcd"
    fork: dict = field(default_factory=dict)

    def leaf(self, index):
        return merkle.leaf(f"entry {index}{self.fork.get(index, '')}".encode())

    def subtree(self, first, until):
        if until - first == 1:
            return self.leaf(first)
        middle = first + (1 << (until - first - 1).bit_length() - 1)
        return merkle.node(self.subtree(first, middle), self.subtree(middle, until))

    def text(self, size):
        root = self.subtree(0, size) if size else merkle.EMPTY
        return note.Head(origin=self.origin, size=size, root=root).text

    def checkpoint(self, size, *keys):
        return note.signed(self.text(size), keys or [self.key])

    def request(self, old, size, *keys):
        proof = merkle.consistency(old, 0, size, self.subtree) if old else []
        lines = [f"old {old}", *(b64encode(each).decode() for each in proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint(size, *keys)
