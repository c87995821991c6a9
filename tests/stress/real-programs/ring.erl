%% A ring of processes on four schedulers.
-module(ring).
-export([main/1]).
main(_) ->
    Parent = self(),
    Last = lists:foldl(fun(_, Next) -> spawn(fun() -> pass(Next) end) end, Parent, lists:seq(1, 200)),
    [Last ! {token, N} || N <- lists:seq(1, 50)],
    Sum = lists:sum([receive {token, N} -> N end || _ <- lists:seq(1, 50)]),
    Workers = [spawn_monitor(fun() -> exit({done, count(I * 1000, 0)}) end) || I <- lists:seq(1, 8)],
    Done = [receive {'DOWN', Reference, process, Pid, {done, Value}} -> Value end || {Pid, Reference} <- Workers],
    io:format("~p ~p~n", [Sum, Done]),
    io:format("~s", [os:cmd("echo child")]).
pass(Next) -> receive Token -> Next ! Token, pass(Next) end.
count(0, Sum) -> Sum;
count(N, Sum) -> count(N - 1, (Sum + N) rem 1000003).
