//! What is stored is not ordered again.

use super::*;

#[test]
fn a_restart_orders_nothing_and_a_reload_what_is_new() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    let three = [APP, API, PROXY];
    let conf = ordering(stage.hosts(&three), &pebble, "");
    let mut edge = stage.start(&conf);
    let trusted = pebble.trusted(stage.https.addr);
    let before = wait_trusted(&edge, &trusted, &three);
    wait_at_rest(&edge, &three);
    edge.sigterm();
    assert!(edge.wait_exit().success());

    let edge = stage.start(&conf);
    // No waiting: ready means that what is stored is served.
    let first: Vec<_> = three.iter().map(|host| trusted.connect(host).leaf()).collect();
    assert_eq!(first, before);
    wait_role(&edge, "owner");
    wait_at_rest(&edge, &three);
    assert_eq!((pebble.orders(), pebble.issued()), (3, 3));

    edge.reload(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    let added = wait_trusted(&edge, &trusted, &[NANGO]);
    assert_eq!(names(&added[0]), [NANGO]);
    wait_at_rest(&edge, &HOSTS);
    assert_eq!((pebble.orders(), pebble.issued()), (4, 4));

    edge.reload(&ordering(stage.hosts(&[APP, NANGO]), &pebble, ""));
    in_time("the removed hosts to be refused", &edge, || trusted.try_connect(API).err());
    wait_at_rest(&edge, &[APP, NANGO]);
    // It comes back without an order as well.
    edge.reload(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    assert_eq!(wait_trusted(&edge, &trusted, &three), before);
    wait_at_rest(&edge, &HOSTS);
    assert_eq!((pebble.orders(), pebble.issued()), (4, 4));
}

#[test]
fn a_kill_after_the_certificate_came_orders_nothing() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    let conf = ordering(stage.hosts(&[APP]), &pebble, "");
    let mut edge = stage.start(&conf);
    let trusted = pebble.trusted(stage.https.addr);
    let before = wait_trusted(&edge, &trusted, &[APP]);
    // At the first handshake that shows it: written or not, it is not lost.
    edge.kill();
    let edge = stage.start(&conf);
    assert_eq!(wait_trusted(&edge, &trusted, &[APP]), before);
    wait_at_rest(&edge, &[APP]);
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
}
