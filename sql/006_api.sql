-- Requests to Klaviyo: the request slots that all processes share, and the requests of each run.

CALL create_table('api_pacing', 'The request slots that all processes of this account share, one row per endpoint.', ARRAY[
    ['endpoint', 'text', 'Klaviyo''s name of the operation, such as get_flows.'],
    ['slots', 'timestamptz[] NOT NULL DEFAULT ''{}''', 'The last reserved slots, oldest first, as many as the longest published rate needs.'],
    ['blocked_until', 'timestamptz', 'No request is sent before this time, because Klaviyo answered 429.']
], 'PRIMARY KEY (endpoint)');

CALL create_table('api_calls', 'The number of requests to Klaviyo by run and endpoint, including failed runs. Each asset of a run adds its numbers when it ends. The seconds of concurrent requests are summed, so they may exceed the duration of the run.', ARRAY[
    ['run_id', 'text', 'Id of the Dagster run.'],
    ['endpoint', 'text', 'Klaviyo''s name of the operation, such as get_flows.'],
    ['requests', 'integer NOT NULL', 'Requests that were sent, including retries.'],
    ['throttled', 'integer NOT NULL', 'Requests, among those that were sent, that Klaviyo answered with 429.'],
    ['retries', 'integer NOT NULL', 'Requests, among those that were sent, that repeated a failed request.'],
    ['rows', 'bigint NOT NULL', 'Objects or report results in the answers.'],
    ['waited_seconds', 'numeric(12, 3) NOT NULL', 'Time spent waiting before requests: for the published rates, for blocks after a 429, and for pauses before retries.'],
    ['read_seconds', 'numeric(12, 3) NOT NULL', 'Time from sending a request to the end of its answer.'],
    ['first_at', 'timestamptz NOT NULL', 'When the first request was answered or failed.'],
    ['last_at', 'timestamptz NOT NULL', 'When the last request was answered or failed.']
], 'PRIMARY KEY (run_id, endpoint)');
CREATE INDEX ON api_calls (last_at);
