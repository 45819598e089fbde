-- Asks /oauth/verify whether a request may pass, and adds who sent it.
local VERIFY = "http://127.0.0.1:8000/oauth/verify"

-- HAProxy counts the values of a header from 0. Two are enough to see that there is more than one, and its HTTP client
-- crashes when it should send about a hundred.
local function values(field)
    local list = {}
    for index, value in pairs(field or {}) do
        if index < 2 then
            list[index + 1] = value
        end
    end
    return list
end

core.register_action("verify", { "http-req" }, function(txn)
    local sent = txn.http:req_get_headers()
    local answer = core.httpclient():get{
        url = VERIFY,
        headers = {
            ["authorization"] = values(sent["authorization"]),
            ["accept"] = values(sent["accept"]),
            ["x-original-uri"] = { txn.sf:pathq() },
            ["x-original-method"] = { txn.sf:method() },
            -- Not the Host that the client sends: it could name another MCP server.
            ["x-forwarded-host"] = { "mcp.example.com" },
            ["x-forwarded-proto"] = { "https" },
            ["x-forwarded-for"] = { txn.sf:src() },
        },
    }
    if answer.status ~= 200 then
        -- Without an answer the status is 0, and nobody passes.
        local reply = txn:reply{ status = answer.status > 0 and answer.status or 503 }
        for _, name in ipairs{ "www-authenticate", "content-type", "retry-after", "allow", "cache-control" } do
            for _, value in ipairs(values(answer.headers and answer.headers[name])) do
                reply:add_header(name, value)
            end
        end
        reply:set_body(answer.body or "")
        txn:done(reply)
    end
    for name, field in pairs(answer.headers) do
        if name:find("^x%-seed%-oauth%-") and field[0] ~= "" then
            txn.http:req_set_header(name, field[0])
            -- HAProxy says nothing when there is no room for it.
            assert(txn.f:req_fhdr(name) == field[0], "no room for " .. name)
        end
    end
    txn:set_var("txn.verified", true)
end)
