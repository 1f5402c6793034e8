-- With the argument "browser": the fields that a browser sends.
-- One line with what the table needs, in microseconds.

local browser = {
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) "
                     .. "Gecko/20100101 Firefox/128.0",
    ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,"
                 .. "image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.8",
    ["Accept-Language"] = "en-US,en;q=0.5",
    ["Accept-Encoding"] = "gzip, deflate, br, zstd",
    ["Referer"] = "http://www.example.com/the/page/before/this/one",
    ["Cookie"] = "session=4f1c0b7e9a2d4c3f8b6e5a1d0c9f8e7b; theme=dark",
    ["Upgrade-Insecure-Requests"] = "1",
    ["Sec-Fetch-Dest"] = "document",
    ["Sec-Fetch-Mode"] = "navigate",
    ["Sec-Fetch-Site"] = "same-origin",
    ["Sec-Fetch-User"] = "?1",
    ["Priority"] = "u=0, i",
}

init = function(args)
    if args[1] == "browser" then
        for name, value in pairs(browser) do
            wrk.headers[name] = value
        end
    end
end

done = function(summary, latency, requests)
    local e = summary.errors

    io.write(string.format("RESULT %d %d %d %d %d\n",
             summary.requests, summary.duration,
             latency:percentile(50), latency:percentile(99),
             e.connect + e.read + e.write + e.status + e.timeout))
end
