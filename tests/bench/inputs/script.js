// Objects, closures, strings, typed arrays, maps and sorting.
const rounds = 3 * Number(process.argv[2]);
let out = [];
for (let round = 1; round <= rounds; round++) {
  const map = new Map();
  let state = round;
  for (let i = 0; i < 20000; i++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    const key = 'k' + (state % 499);
    map.set(key, (map.get(key) || 0) + i);
  }
  const ranked = [...map].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 5);
  const numbers = new Float64Array(5000).map((_, i) => Math.sqrt(i * round));
  const text = ranked.map(([k, v]) => `${k}=${v}`).join(';').replace(/\d/g, d => 9 - d);
  const tree = n => n ? {left: tree(n - 1), right: tree(n - 1), n} : null;
  const depth = t => t ? 1 + Math.max(depth(t.left), depth(t.right)) : 0;
  out.push(text, numbers.reduce((a, b) => a + b).toFixed(6), depth(tree(10)));
}
console.log(out.join('\n'));
