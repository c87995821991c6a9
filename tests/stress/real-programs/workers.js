// Worker threads that compute, share memory and pass messages; the main thread starts programs meanwhile.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process');
if (!isMainThread) {
  const shared = new Int32Array(workerData.shared);
  let sum = 0;
  for (let i = 0; i < 200000; i++) {
    sum = (sum + i * workerData.number) % 1000003;
    if (i % 1000 === 0) Atomics.add(shared, 0, 1);
  }
  parentPort.postMessage({ number: workerData.number, sum });
} else {
  const shared = new SharedArrayBuffer(64);
  const sums = [];
  for (let number = 1; number <= 4; number++)
    new Worker(__filename, { workerData: { shared, number } }).on('message', (message) => {
      sums[message.number] = message.sum;
      if (sums.filter((x) => x !== undefined).length < 4) return;
      console.log(sums.slice(1).join(' '), Atomics.load(new Int32Array(shared), 0));
    });
  for (let i = 0; i < 3; i++) console.log(String(execFileSync('/bin/echo', ['child', i])).trim());
}
