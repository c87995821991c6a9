// Threads that share by message, by lock and by atomics, that wait for one another, and that panic and are joined.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;

fn pipeline(stages: usize, items: u64) -> u64 {
    let (first, mut last) = mpsc::channel::<u64>();
    let mut handles = Vec::new();
    for stage in 0..stages as u64 {
        let (send, receive) = mpsc::sync_channel(4);
        handles.push(thread::spawn(move || {
            for item in last {
                send.send(item * 3 + stage).unwrap();
            }
        }));
        let (relay, next) = mpsc::channel();
        handles.push(thread::spawn(move || receive.iter().for_each(|item| relay.send(item).unwrap())));
        last = next;
    }
    (0..items).for_each(|item| first.send(item).unwrap());
    drop(first);
    let sum = last.iter().fold(0u64, |sum, item| sum.wrapping_mul(31).wrapping_add(item));
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    sum
}

fn shared(threads: u64, rounds: u64) -> (u64, u64, usize) {
    let counter = Arc::new(AtomicU64::new(0));
    let map = Arc::new(RwLock::new(BTreeMap::new()));
    let turn = Arc::new((Mutex::new(0u64), Condvar::new()));
    let barrier = Arc::new(Barrier::new(threads as usize));
    let handles: Vec<_> = (0..threads)
        .map(|number| {
            let (counter, map, turn, barrier) = (counter.clone(), map.clone(), turn.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for round in 0..rounds {
                    counter.fetch_add(number ^ round, Ordering::Relaxed);
                    map.write().unwrap().insert((round % 97, number), vec![round; 8]);
                    let (lock, changed) = &*turn;
                    let mut whose = changed.wait_while(lock.lock().unwrap(), |whose| *whose % threads != number).unwrap();
                    *whose += 1;
                    changed.notify_all();
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    let turns = *turn.0.lock().unwrap();
    let size = map.read().unwrap().len();
    (counter.load(Ordering::SeqCst), turns, size)
}

fn panics(count: usize) -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let handles: Vec<_> = (0..count)
        .map(|number| thread::spawn(move || if number % 2 == 1 { panic!("{}", number) } else { number }))
        .collect();
    handles.into_iter().filter_map(|handle| handle.join().err()).count()
}

fn main() {
    for round in 0..3 {
        println!("{round}: {} {:?} {}", pipeline(4, 2000), shared(4, 300), panics(40));
    }
}
