"""The network itself, without policy: who reaches whom, by which address and name, and who answers.

A package, so that its tests can share what they ask (:mod:`.reach`).
"""
