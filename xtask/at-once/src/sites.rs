//! Finds the piece of a program that each mutant changes, and says how to let it be chosen at run time.

use crate::list::{Genre, Mutant, Text};
use crate::weave::Edit;
use std::collections::BTreeSet;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// What was found.
#[derive(Default)]
pub struct Found {
    pub edits: Vec<Edit>,
    /// The numbers of the mutants that these edits build in.
    pub numbers: BTreeSet<usize>,
}

/// The edits for `mutants` of `file`, which is `text`. `careful`: none that take `const` from functions or put conditions on arms.
pub fn find(file: &syn::File, text: &Text, mutants: &[Mutant], careful: bool) -> Found {
    let mut finder = Finder { text, mutants, careful, constant: 0, found: Found::default() };
    finder.visit_file(file);
    finder.found
}

struct Finder<'a> {
    text: &'a Text<'a>,
    mutants: &'a [Mutant],
    careful: bool,
    /// How deep in what is computed before the program runs.
    constant: usize,
    found: Found,
}

impl<'a> Finder<'a> {
    fn place(&self, spanned: &impl Spanned) -> Range<usize> {
        self.text.place(spanned.span())
    }

    fn code(&self, place: Range<usize>) -> &'a str {
        &self.text.source[place]
    }

    /// The mutants of this kind for which `here` is true, from now on built in.
    fn take(&mut self, genre: Genre, here: impl Fn(&Range<usize>) -> bool) -> Vec<&'a Mutant> {
        if self.constant > 0 {
            return Vec::new();
        }
        let taken: Vec<_> = self.mutants.iter().filter(|mutant| mutant.genre == genre && here(&mutant.place)).collect();
        self.found.numbers.extend(taken.iter().map(|mutant| mutant.number));
        taken
    }

    fn choose(&mut self, place: Range<usize>, variants: Vec<(usize, String)>) {
        if !variants.is_empty() {
            self.found.edits.push(Edit::Choose(place, variants));
        }
    }

    fn insert(&mut self, at: usize, text: String) {
        if !text.is_empty() {
            self.found.edits.push(Edit::Insert(at, text));
        }
    }

    /// What `visit` visits is computed before the program runs.
    fn constant(&mut self, visit: impl FnOnce(&mut Self)) {
        self.constant += 1;
        visit(self);
        self.constant -= 1;
    }

    /// A function; `visit` visits what is in it.
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block, visit: impl FnOnce(&mut Self)) {
        let place = self.place(block);
        if let Some(constant) = &signature.constness
            && self.mutants.iter().any(|mutant| place.start <= mutant.place.start && mutant.place.end <= place.end)
        {
            if self.careful {
                return self.constant(visit);
            }
            self.found.edits.push(Edit::Remove(self.place(constant)));
        }
        let outer = std::mem::take(&mut self.constant);
        // A value of another type than what the function returns otherwise cannot stand beside that.
        let is_opaque =
            matches!(&signature.output, syn::ReturnType::Type(_, of) if matches!(**of, syn::Type::ImplTrait(_)));
        if let (Some(first), Some(last), false) = (block.stmts.first(), block.stmts.last(), is_opaque) {
            let all = self.place(first).start..self.place(last).end;
            let values = self.take(Genre::FnValue, |at| *at == all);
            let value = |mutant: &&Mutant| {
                let Mutant { number, replacement, .. } = mutant;
                format!("/*<{number}*/if crate::__mutant() == {number} {{ return {replacement}; }}/*>{number}*/ ")
            };
            self.insert(place.start + 1, values.iter().map(value).collect());
        }
        visit(self);
        self.constant = outer;
    }
}

/// Whether a condition binds names, so that no parentheses may be put around it.
struct Binds(bool);

impl Visit<'_> for Binds {
    fn visit_expr_let(&mut self, _: &syn::ExprLet) {
        self.0 = true;
    }

    fn visit_block(&mut self, _: &syn::Block) {}

    fn visit_expr_paren(&mut self, _: &syn::ExprParen) {}
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block, |finder| visit::visit_item_fn(finder, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block, |finder| visit::visit_impl_item_fn(finder, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block, |finder| visit::visit_trait_item_fn(finder, item));
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.constant(|finder| visit::visit_item_const(finder, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.constant(|finder| visit::visit_item_static(finder, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(|finder| visit::visit_impl_item_const(finder, item));
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.constant(|finder| visit::visit_trait_item_const(finder, item));
    }

    fn visit_expr_const(&mut self, block: &'ast syn::ExprConst) {
        self.constant(|finder| visit::visit_expr_const(finder, block));
    }

    fn visit_type(&mut self, of: &'ast syn::Type) {
        self.constant(|finder| visit::visit_type(finder, of));
    }

    fn visit_pat(&mut self, pattern: &'ast syn::Pat) {
        self.constant(|finder| visit::visit_pat(finder, pattern));
    }

    fn visit_expr_repeat(&mut self, array: &'ast syn::ExprRepeat) {
        self.visit_expr(&array.expr);
        self.constant(|finder| finder.visit_expr(&array.len));
    }

    fn visit_expr_binary(&mut self, expression: &'ast syn::ExprBinary) {
        let mut binds = Binds(false);
        binds.visit_expr_binary(expression);
        if !binds.0 {
            let (whole, operator) = (self.place(expression), self.place(&expression.op));
            let (left, right) = (self.code(whole.start..operator.start), self.code(operator.end..whole.end));
            let others = self.take(Genre::BinaryOperator, |at| *at == operator);
            let variant = |other: &Mutant| (other.number, format!("{left}{}{right}", other.replacement));
            self.choose(whole, others.into_iter().map(variant).collect());
        }
        visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'ast syn::ExprUnary) {
        let operator = self.place(&expression.op);
        let operand = self.code(self.place(&*expression.expr));
        let without = self.take(Genre::UnaryOperator, |at| *at == operator);
        let whole = self.place(expression);
        self.choose(whole, without.iter().map(|mutant| (mutant.number, operand.to_owned())).collect());
        visit::visit_expr_unary(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let start = self.place(&arm.pat).start;
        let careful = self.careful;
        let gone = self.take(Genre::MatchArm, |at| !careful && at.start == start);
        let still_there: Vec<String> =
            gone.iter().map(|mutant| format!("crate::__mutant() != {}", mutant.number)).collect();
        match &arm.guard {
            Some((_, guard)) => {
                let place = self.place(&**guard);
                self.insert(place.start, still_there.iter().map(|condition| format!("{condition} && ")).collect());
                let others = self.take(Genre::MatchArmGuard, |at| *at == place);
                let variant = |other: &Mutant| (other.number, other.replacement.clone());
                self.choose(place, others.into_iter().map(variant).collect());
            }
            None if !still_there.is_empty() => {
                let end = self.place(&arm.pat).end;
                self.insert(end, format!(" if {}", still_there.join(" && ")));
            }
            None => {}
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, made: &'ast syn::ExprStruct) {
        let whole = self.place(made);
        let mut variants = Vec::new();
        for field in &made.fields {
            let field = self.place(field);
            // Its comma goes with it.
            let comma = usize::from(self.text.source[field.end..].starts_with(','));
            let without = [self.code(whole.start..field.start), self.code(field.end + comma..whole.end)].concat();
            let gone = self.take(Genre::StructField, |at| at.start == field.start);
            variants.extend(gone.iter().map(|mutant| (mutant.number, without.clone())));
        }
        self.choose(whole, variants);
        visit::visit_expr_struct(self, made);
    }
}
