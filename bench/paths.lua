-- Requests of users for paths of backends that are theirs ("found") or somebody
-- else's ("missing"), all of them in turn; for one by its name ("named"); or for
-- what nginx answers without a look-up ("control").  The number of backends is
-- known to Registry.pm: so are users and paths.

local way, count, n

init = function(args)
    way = args[1]
    count = tonumber(args[2])
    n = 0
end

request = function()
    -- each of them once, and what comes next is nowhere near
    n = (n + 61803) % count

    local user = (way == "missing" and n + 1 or n) % 1000
    local path = "/app-%05d/"

    if way == "named" then
        path = "/named/%05d"
    elseif way == "control" then
        path = "/control/%05d"
    end

    return wrk.format("GET", string.format(path, n), {
        ["X-User"] = string.format("user-%03d@example.com", user) })
end

done = function(summary, latency, requests)
    local e = summary.errors

    io.write(string.format("RESULT %d %d %d %d %d\n",
             summary.requests, summary.duration,
             latency:percentile(50), latency:percentile(99),
             e.connect + e.read + e.write + e.timeout))
end
