"""A simulated Klaviyo account over HTTP, for the demo and the tests.

It validates requests as strictly as the real API does, based on the API's own description and on observations of the
API. It shares no code with the client, so an error on one side is visible on the other.

- `sandbox_account`: the content of the account, and how a test changes it. `generate` creates a realistic account.
- `app`, `endpoints`: authentication, routing and parameters. `listing_endpoints`, `directory`, `report_endpoints`: the
  answers. `limits`, `cursors`, `faults`: rate limits, page cursors and injected faults.
- `server`: the HTTP server.
"""
