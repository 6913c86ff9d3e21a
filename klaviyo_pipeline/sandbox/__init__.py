"""A simulated Klaviyo account over HTTP, for the demo and the tests.

It judges requests as strictly as the real API does, from the API's own description and from what was seen of
it. It shares no code with the client, so that a misunderstanding on one side shows on the other.

- `account`: what the account holds, and how a test changes it; `generate` makes a believable one.
- `app`, `endpoints`: who may ask what; `listings`, `directory`, `reports`: the answers; `limits`, `cursors`,
  `faults`.
- `server`: serving it.
"""
