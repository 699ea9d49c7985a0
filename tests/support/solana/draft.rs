//! Transactions as wallets make them, and some that none would.
//!
//! Instructions of the token programs are written here by the byte: their interface crates are a major version behind the
//! other crates, and Token-2022's brings proofs of zero knowledge with it.

use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::v1::TransactionConfig;
use solana_message::{AddressLookupTableAccount, Message, VersionedMessage, v0, v1};
use solana_signer::Signer;
use solana_system_interface::instruction as system;
use solana_transaction::versioned::VersionedTransaction;

pub const TOKEN: Address = Address::from_str_const("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
pub const TOKEN_2022: Address = Address::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
const ASSOCIATED: Address = Address::from_str_const("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
const MEMO: Address = Address::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const BUDGET: Address = Address::from_str_const("ComputeBudget111111111111111111111111111111");
const TABLES: Address = Address::from_str_const("AddressLookupTab1e1111111111111111111111111");
const SYSTEM: Address = Address::from_str_const("11111111111111111111111111111111");
/// More than a mint or a token account needs to exist, of either program.
const RENT: u64 = 5_000_000;
/// Compute units that suffice for all there is here.
const UNITS: u32 = 400_000;
/// What the payer gets of a mint.
const SUPPLY: u64 = 1_000_000_000_000_000_000;

/// A token.
#[derive(Clone, Copy, Debug)]
pub struct Mint {
    pub address: Address,
    pub program: Address,
    pub decimals: u8,
}

impl Mint {
    /// SOL as a token.
    pub const WRAPPED_SOL: Self = Self {
        address: Address::from_str_const("So11111111111111111111111111111111111111112"),
        program: TOKEN,
        decimals: 9,
    };

    /// An owner's associated account.
    pub fn account(&self, owner: &Address) -> Address {
        let seeds = [owner.as_ref(), self.program.as_ref(), self.address.as_ref()];
        Address::find_program_address(&seeds, &ASSOCIATED).0
    }
}

enum Form {
    Legacy,
    V0(AddressLookupTableAccount),
    V1,
}

/// A transaction to be. The first signer pays the fee; what follows `then_from` is taken from another.
pub struct Draft {
    signers: Vec<Keypair>,
    source: Address,
    instructions: Vec<Instruction>,
    nonce: Option<Address>,
    form: Form,
}

impl Draft {
    pub fn by(payer: &Keypair) -> Self {
        let (signers, source) = (vec![payer.insecure_clone()], payer.pubkey());
        Self { signers, source, instructions: Vec::new(), nonce: None, form: Form::Legacy }
    }

    /// What follows is taken from somebody else, who signs, too.
    pub fn then_from(mut self, owner: &Keypair) -> Self {
        self.source = owner.pubkey();
        self.signed_by(owner)
    }

    fn signed_by(mut self, key: &Keypair) -> Self {
        if self.signers.iter().all(|signer| signer.pubkey() != key.pubkey()) {
            self.signers.push(key.insecure_clone());
        }
        self
    }

    pub fn instruction(mut self, instruction: Instruction) -> Self {
        self.instructions.push(instruction);
        self
    }

    fn step(self, program: Address, data: Vec<u8>, accounts: Vec<AccountMeta>) -> Self {
        self.instruction(Instruction { program_id: program, accounts, data })
    }

    /// Lamports.
    pub fn sol(self, to: &Address, lamports: u64) -> Self {
        let transfer = system::transfer(&self.source, to, lamports);
        self.instruction(transfer)
    }

    /// Tokens to the owner's associated account, which is made if it is missing.
    pub fn token(self, mint: &Mint, owner: &Address, amount: u64) -> Self {
        self.associated(mint, owner).token_to(mint, &mint.account(owner), amount)
    }

    /// Tokens to a token account that is there.
    pub fn token_to(self, mint: &Mint, account: &Address, amount: u64) -> Self {
        let mut data = vec![12];
        data.extend(amount.to_le_bytes());
        data.push(mint.decimals);
        let accounts = vec![
            writable(mint.account(&self.source)),
            readable(mint.address),
            writable(*account),
            AccountMeta::new_readonly(self.source, true),
        ];
        self.step(mint.program, data, accounts)
    }

    /// Makes the owner's associated account if it is missing.
    pub fn associated(self, mint: &Mint, owner: &Address) -> Self {
        let accounts = vec![
            AccountMeta::new(self.source, true),
            writable(mint.account(owner)),
            readable(*owner),
            readable(mint.address),
            readable(SYSTEM),
            readable(mint.program),
        ];
        self.step(ASSOCIATED, vec![1], accounts)
    }

    /// Adds keys to the last instruction, as Solana Pay refers to an order.
    pub fn references(mut self, keys: &[Address]) -> Self {
        let last = self.instructions.last_mut().expect("an instruction to refer from");
        last.accounts.extend(keys.iter().copied().map(readable));
        self
    }

    pub fn memo(self, text: &str) -> Self {
        self.step(MEMO, text.as_bytes().to_vec(), Vec::new())
    }

    /// Lamports into wrapped SOL of the same owner.
    pub fn wrap(self, lamports: u64) -> Self {
        let mint = Mint::WRAPPED_SOL;
        let owner = self.source;
        let account = mint.account(&owner);
        self.associated(&mint, &owner).sol(&account, lamports).step(TOKEN, vec![17], vec![writable(account)])
    }

    /// Closes the owner's associated account; its lamports go to the owner. It must be empty, if it is not of wrapped SOL.
    pub fn close(self, mint: &Mint) -> Self {
        let owner = self.source;
        let accounts = vec![writable(mint.account(&owner)), writable(owner), AccountMeta::new_readonly(owner, true)];
        self.step(mint.program, vec![9], accounts)
    }

    /// Takes tokens out of the associated account that belongs to the owner's associated account of `outer`: the transfer is
    /// an inner one, which the program of associated accounts makes.
    pub fn recover(self, outer: &Mint, inner: &Mint) -> Self {
        let owner = self.source;
        let middle = outer.account(&owner);
        let accounts = vec![
            writable(inner.account(&middle)),
            readable(inner.address),
            writable(inner.account(&owner)),
            readable(middle),
            readable(outer.address),
            AccountMeta::new(owner, true),
            readable(inner.program),
        ];
        self.step(ASSOCIATED, vec![2], accounts)
    }

    /// A new mint with all of its supply in the source's associated account.
    pub(super) fn new_mint(self, key: &Keypair, mint: &Mint, basis_points: Option<u16>) -> Self {
        let authority = self.source;
        // Extensions come after what an account has: 165 bytes, its kind, and a head of 4 before the 108 of fees.
        let space = if basis_points.is_some() { 165 + 1 + 4 + 108 } else { 82 };
        let account = system::create_account(&authority, &mint.address, RENT, space, &mint.program);
        let mut draft = self.signed_by(key).instruction(account);
        if let Some(basis_points) = basis_points {
            let mut data = vec![26, 0];
            (0..2).for_each(|_| {
                data.push(1);
                data.extend(authority.as_ref());
            });
            data.extend(basis_points.to_le_bytes());
            data.extend(u64::MAX.to_le_bytes());
            draft = draft.step(mint.program, data, vec![writable(mint.address)]);
        }
        let mut data = vec![20, mint.decimals];
        data.extend(authority.as_ref());
        data.push(0);
        draft = draft.step(mint.program, data, vec![writable(mint.address)]).associated(mint, &authority);
        let mut data = vec![7];
        data.extend(SUPPLY.to_le_bytes());
        let accounts = vec![
            writable(mint.address),
            writable(mint.account(&authority)),
            AccountMeta::new_readonly(authority, true),
        ];
        draft.step(mint.program, data, accounts)
    }

    /// A token account that is not an associated one.
    pub(super) fn new_account(self, key: &Keypair, mint: &Mint, owner: &Address) -> Self {
        // With fees withheld, an account has 165 bytes, its kind, and a head of 4 before 8.
        let space = if mint.program == TOKEN { 165 } else { 165 + 1 + 4 + 8 };
        let account = system::create_account(&self.source, &key.pubkey(), RENT, space, &mint.program);
        let mut data = vec![18];
        data.extend(owner.as_ref());
        let accounts = vec![writable(key.pubkey()), readable(mint.address)];
        self.signed_by(key).instruction(account).step(mint.program, data, accounts)
    }

    pub(super) fn new_nonce(mut self, key: &Keypair) -> Self {
        let made = system::create_nonce_account(&self.source, &key.pubkey(), &self.source, RENT);
        self.instructions.extend(made);
        self.signed_by(key)
    }

    pub(super) fn advance(self, nonce: &Address) -> Self {
        let advance = system::advance_nonce_account(nonce, &self.source);
        self.instruction(advance)
    }

    /// A look-up table, named after a slot that is sealed.
    pub(super) fn new_table(self, slot: u64, addresses: &[Address]) -> (Self, Address) {
        let authority = self.source;
        let (table, bump) = Address::find_program_address(&[authority.as_ref(), &slot.to_le_bytes()], &TABLES);
        let accounts = vec![writable(table), readable(authority), AccountMeta::new(authority, true), readable(SYSTEM)];
        let mut create = vec![0, 0, 0, 0];
        create.extend(slot.to_le_bytes());
        create.push(bump);
        let mut extend = vec![2, 0, 0, 0];
        extend.extend((addresses.len() as u64).to_le_bytes());
        addresses.iter().for_each(|address| extend.extend(address.as_ref()));
        (self.step(TABLES, create, accounts.clone()).step(TABLES, extend, accounts), table)
    }

    /// Good as long as the nonce account of the payer isn't advanced, instead of for 150 blocks.
    pub fn with_nonce(mut self, account: &Address) -> Self {
        self.nonce = Some(*account);
        self
    }

    pub(super) fn nonce(&self) -> Option<&Address> {
        self.nonce.as_ref()
    }

    /// Version 0, with all that a look-up table has loaded from there.
    pub fn loading(mut self, table: &AddressLookupTableAccount) -> Self {
        self.form = Form::V0(table.clone());
        self
    }

    /// Version 1.
    pub fn v1(mut self) -> Self {
        self.form = Form::V1;
        self
    }

    /// The salt, in the compute units it asks for, tells it from others that do the same.
    pub(super) fn sign(&self, hash: Hash, salt: u32) -> VersionedTransaction {
        let payer = self.signers[0].pubkey();
        let units = UNITS + salt;
        let mut instructions = Vec::new();
        instructions.extend(self.nonce.map(|nonce| system::advance_nonce_account(&nonce, &payer)));
        if !matches!(self.form, Form::V1) {
            let mut data = vec![2];
            data.extend(units.to_le_bytes());
            instructions.push(Instruction { program_id: BUDGET, accounts: Vec::new(), data });
        }
        instructions.extend(self.instructions.iter().cloned());
        let message = match &self.form {
            Form::Legacy => VersionedMessage::Legacy(Message::new_with_blockhash(&instructions, Some(&payer), &hash)),
            Form::V0(table) => {
                let tables = std::slice::from_ref(table);
                VersionedMessage::V0(v0::Message::try_compile(&payer, &instructions, tables, hash).expect("it fits"))
            }
            Form::V1 => {
                let config = TransactionConfig {
                    compute_unit_limit: Some(units),
                    loaded_accounts_data_size_limit: Some(10_000_000),
                    ..TransactionConfig::empty()
                };
                let message = v1::Message::try_compile_with_config(&payer, &instructions, hash, config);
                VersionedMessage::V1(message.expect("it fits"))
            }
        };
        VersionedTransaction::try_new(message, &self.signers).expect("all who must sign do")
    }
}

fn writable(address: Address) -> AccountMeta {
    AccountMeta::new(address, false)
}

fn readable(address: Address) -> AccountMeta {
    AccountMeta::new_readonly(address, false)
}
