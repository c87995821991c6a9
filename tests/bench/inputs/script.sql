-- Once or twice through: each pass makes, fills, joins and drops its own tables.
create table item(id integer primary key, name text, value integer);
create table link(a integer, b integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
  insert into item select i, 'name-' || (i * 7919 % 1009), i * i % 1013 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 8000)
  insert into link select i * 31 % 4000, i * 17 % 4000 from n;
create index by_name on item(name);
create index by_a on link(a);
select count(*), sum(value), min(name), max(name) from item;
select substr(name, 6, 1) as digit, count(*), avg(value) from item group by digit order by digit;
select sum(x.value * y.value % 97) from link join item x on x.id = link.a join item y on y.id = link.b;
update item set value = value + (select count(*) from link where link.a = item.id);
select name, value from item where name like 'name-1%' order by value desc, name limit 10;
delete from item where value % 3 = 0;
select count(*), total(value) from item;
drop table item;
drop table link;
