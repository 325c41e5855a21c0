"""House rules as tests: layers, sizes, the stub, the documents."""
