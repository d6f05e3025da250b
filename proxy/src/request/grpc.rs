//! gRPC: deadlines, and answers of our own that gRPC clients understand.
