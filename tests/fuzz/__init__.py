"""Coverage-guided fuzzing of the compiled core under AddressSanitizer and UBSan; see tests/fuzz/README.md."""
