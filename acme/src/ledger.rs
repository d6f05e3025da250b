//! What was asked of certificate authorities, kept so that no restart forgets a limit.
