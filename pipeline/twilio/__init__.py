"""The API and nothing else: requests, errors, retries, and the way from bytes to Arrow and back."""
