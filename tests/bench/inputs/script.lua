-- Tables, closures, string methods and arithmetic.
local function sieve(limit)
  local composite, count = {}, 0
  for i = 2, limit do
    if not composite[i] then
      count = count + 1
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return count
end

local function counter()
  local n = 0
  return function(by) n = (n * 31 + by) % 1000003; return n end
end

local result = {}
for round = 1, 12 * tonumber(arg[1]) do
  local count, list, text = counter(), {}, {}
  for i = 1, 5000 do list[i] = count(i * round) end
  table.sort(list)
  for i = 1, 300 do text[#text + 1] = string.format("%d:%x", i, list[i * 10]) end
  local joined = table.concat(text, ","):gsub("%d+:", string.upper)
  local sum = 0.0
  for i = 1, #list do sum = sum + list[i] / i end
  result[#result + 1] = string.format("%d %d %.6f %d", sieve(4000), #joined, sum, select(2, joined:gsub("a", "b")))
end
print(table.concat(result, "\n"))
