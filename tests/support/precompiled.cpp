// Nothing: the target of this file owns the precompiled header that all tests share.
