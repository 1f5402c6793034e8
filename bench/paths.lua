-- Requests of users for paths of backends that are there ("found"), or that are
-- not ("missing"), all of them in turn; or for one by its name ("named").  The
-- number of backends is known to Registry.pm: so are users and paths.

local way, count, n

init = function(args)
    way = args[1]
    count = tonumber(args[2])
    n = 0
end

request = function()
    -- each of them once, and what comes next is nowhere near
    n = (n + 61803) % count

    local user = string.format("user-%d@example.com", n % 1000)

    if way == "named" then
        return wrk.format("GET", string.format("/named/%d", n), {
            ["X-User"] = user })
    end

    return wrk.format("GET", string.format("/app-%d/%s", n,
                      way == "found" and "index.html" or ""), {
        ["X-User"] = way == "found" and user or "nobody" })
end

done = function(summary, latency, requests)
    local e = summary.errors

    io.write(string.format("RESULT %d %d %d %d %d\n",
             summary.requests, summary.duration,
             latency:percentile(50), latency:percentile(99),
             e.connect + e.read + e.write + e.timeout))
end
