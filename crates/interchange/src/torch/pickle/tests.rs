//! What the machine builds, what it refuses, and by which name.

use super::*;

fn load(bytes: &[u8]) -> Result<Pickle, PickleError> {
    read(bytes, 0..bytes.len())
}

fn damaged(bytes: &[u8]) -> String {
    match load(bytes) {
        Err(PickleError::Damaged(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_values_are_built() {
    // pickle.dumps({"a": [1, -2, 300, None, True], "b": (1.5, 2**70)}, 2)
    let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01N\x88eX\x01\x00\x00\x00bq\x03G?\xf8\x00\x00\x00\x00\x00\x00\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@\x86q\x04u.";
    let pickle = load(bytes).unwrap();
    assert_eq!(pickle.end, bytes.len());
    let dict = pickle.dict(pickle.root).unwrap();
    let Value::Text(at, 1) = dict[0].0 else {
        panic!()
    };
    assert_eq!(bytes[at as usize], b'a');
    let list = [
        Value::Int(1),
        Value::Int(-2),
        Value::Int(300),
        Value::None,
        Value::Bool(true),
    ];
    assert_eq!(pickle.list(dict[0].1).unwrap(), list);
    assert_eq!(pickle.tuple(dict[1].1).unwrap(), [Value::Number; 2]);
}

#[test]
fn integers_of_any_length_are_read() {
    assert_eq!(integer(&[]), Value::Int(0));
    assert_eq!(integer(&[0xff]), Value::Int(-1));
    assert_eq!(integer(&[0xff, 0]), Value::Int(255));
    assert_eq!(integer(&[0, 0, 0, 0, 1]), Value::Int(1 << 32));
    assert_eq!(integer(&[0; 9]), Value::Number);
}

#[test]
fn a_value_may_hold_itself() {
    // x = []; x.append(x)
    let pickle = load(b"]q\x00h\x00a.").unwrap();
    assert_eq!(pickle.list(pickle.root).unwrap(), [pickle.root]);
}

#[test]
fn code_is_named_and_not_run() {
    for (bytes, name) in [
        (&b"cos\nsystem\n(X\x04\x00\x00\x00true"[..], "`os.system`"),
        (
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
            "`posix.system`",
        ),
        (b"(ios\nsystem\n.", "`os.system`"),
        (b"cbuiltins\neval\n.", "`builtins.eval`"),
        (b"ctorch\nload\n.", "`torch.load`"),
        (b"(cos\nsystem\no.", "`os.system`"),
        (b"ccollections\nOrderedDict\n)\x81.", "a class"),
        (b"\x82\x01.", "extension"),
        (b"N)R.", "no function"),
        (b"K\x01}b.", "restoring"),
    ] {
        match load(bytes) {
            Err(PickleError::Code(found)) => assert!(found.contains(name), "{found}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn programs_without_sense_are_errors() {
    for (bytes, reason) in [
        (&b""[..], "ends too early"),
        (b"K", "ends too early"),
        (b".", "finds no value"),
        (b"t.", "mark is missing"),
        (b"N(0.", "finds no value"),
        (b"N(\x85.", "too few values"),
        (b"X\xff\xff\xff\xff.", "ends too early"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "ends too early"),
        (b"h\x00.", "did not remember"),
        (b"Nr\xff\xff\xff\xff.", "out of order"),
        (b"NNa.", "no list"),
        (b"]Na", "ends too early"),
        (b"N(NNu.", "no dictionary"),
        (b"}(Nu.", "key has no value"),
        (b"NN\x93.", "no text"),
        (b"\xfe.", "instruction 0xfe at byte 0"),
        (
            b"ccollections\nOrderedDict\nK\x01\x85R.",
            "another function",
        ),
        (b"ccollections", "ends too early"),
    ] {
        let message = damaged(bytes);
        assert!(message.contains(reason), "{message}");
    }
    assert!(damaged(&[b']'; 10_000]).contains("more containers"));
}
