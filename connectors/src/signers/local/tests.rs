//! The local signer: where keys may come from, what it signs, what it says.

use semel_schemas::solana::Base64;
use solana_keypair::Keypair;

use super::*;

fn key() -> Keypair {
    Keypair::new_from_array([42; 32])
}

/// A legacy message that `signer` has to sign, with one instruction.
fn message(signer: [u8; 32]) -> Payload {
    let mut bytes = vec![1, 0, 1, 2];
    bytes.extend(signer.iter().chain(&[2; 32]).chain(&[0; 32]));
    bytes.extend([1, 1, 1, 0, 1, 9]);
    Payload::SolanaMessage { message: Base64(bytes) }
}

fn must_file(text: &str, mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
    file
}

fn numbers_of(bytes: &[u8]) -> String {
    format!("{bytes:?}\n")
}

#[tokio::test]
async fn it_signs_a_message_that_asks_for_its_key() {
    let signer = LocalSigner::new(key());
    let Payload::SolanaMessage { message: bytes } = message(signer.public_key().0);
    let payload = Payload::SolanaMessage { message: bytes.clone() };
    let signature = signer.sign(&signer.public_key(), &payload).await.unwrap();
    let signature = solana_signature::Signature::from(signature.0);
    assert!(signature.verify(&signer.public_key().0, &bytes.0));
}

#[tokio::test]
async fn it_refuses_another_key_and_what_it_need_not_sign() {
    let signer = LocalSigner::new(key());
    let own = signer.public_key();
    let other = Address([1; 32]);
    let error = signer.sign(&other, &message(own.0)).await.unwrap_err();
    assert!(matches!(error, SignError::WrongKey { held, asked } if held == own && asked == other));
    let Payload::SolanaMessage { message: Base64(mut with_tail) } = message(own.0);
    with_tail.push(0);
    let raw = |bytes: &[u8]| Payload::SolanaMessage { message: Base64(bytes.to_vec()) };
    for payload in [message([1; 32]), raw(b""), raw(&[7; 32]), raw(&with_tail)] {
        let error = signer.sign(&own, &payload).await.unwrap_err();
        assert!(matches!(error, SignError::Refused(_)), "{error:?}");
    }
}

#[test]
fn it_reads_a_keypair_file_of_its_owner_only() {
    let text = numbers_of(&key().to_bytes());
    let signer = LocalSigner::from_file(must_file(&text, 0o600).path(), Readable::Owner).unwrap();
    assert_eq!(signer.public_key().0, key().pubkey().to_bytes());
    for mode in [0o640, 0o604, 0o660, 0o644] {
        let file = must_file(&text, mode);
        let error = LocalSigner::from_file(file.path(), Readable::Owner).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert!(LocalSigner::from_file(file.path(), Readable::Anyone).is_ok());
    }
    let error = LocalSigner::from_file(Path::new("/nonexistent/key"), Readable::Owner);
    assert!(error.unwrap_err().to_string().contains("/nonexistent/key"));
}

#[test]
fn what_is_no_keypair_is_refused_without_repeating_it() {
    let good = key().to_bytes();
    let mut torn = good;
    torn[40] ^= 1;
    let mut long = good.to_vec();
    long.push(1);
    for (text, part) in [
        (numbers_of(&good[..63]), "fewer than 64"),
        (numbers_of(&long), "more than 64"),
        (numbers_of(&good).replace('[', "[300,"), "from 0 to 255"),
        (numbers_of(&good).replace(']', ""), "no JSON array"),
        (numbers_of(&torn), "public half"),
        (String::new(), "no JSON array"),
        ("x".repeat(10_000), "no JSON array"),
    ] {
        let file = must_file(&text, 0o600);
        let error = LocalSigner::from_file(file.path(), Readable::Owner).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(!error.contains("42, 42"), "{error}");
    }
}

#[test]
fn a_variables_text_is_an_array_or_base58() {
    for text in [numbers_of(&key().to_bytes()), format!(" {} ", key().to_base58_string())] {
        let signer = LocalSigner::from_text(&text).unwrap();
        assert_eq!(signer.public_key().0, key().pubkey().to_bytes());
    }
    for bad in ["", "0", "1111", &"1".repeat(64)] {
        assert!(LocalSigner::from_text(bad).is_err(), "{bad}");
    }
    let error = LocalSigner::from_env("SEMEL_TEST_NO_SUCH_VARIABLE").unwrap_err();
    assert!(error.to_string().contains("SEMEL_TEST_NO_SUCH_VARIABLE"), "{error}");
}

#[test]
fn debug_shows_the_public_key_only() {
    let signer = LocalSigner::new(key());
    let text = format!("{signer:?}");
    assert!(text.contains(&signer.public_key().to_string()), "{text}");
    assert!(!text.contains("42") && !text.contains("secret"), "{text}");
}
