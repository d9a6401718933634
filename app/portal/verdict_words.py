"""What verdicts, reasons, flags and states are called where people read them."""

from typing import Final

VERDICT_WORDS: Final = {
    "CONFIRMED": "Confirmed",
    "INDICATIVE": "Indicative only",
    "NOT_SUPPORTED": "Not supported",
    "NON_COOPERATIVE": "Endpoint did not cooperate",
    "INCONCLUSIVE": "Inconclusive",
    "VOID": "Void",
}

# The one sentence above everything; `{odds}` is the bound that the filing asked for.
SENTENCES: Final = {
    "CONFIRMED": (
        "The endpoint {endpoint} gave the secret label for {matches} of {asked} secret inputs, labels that were drawn by "
        "lot only after the inputs were fixed; an endpoint that has nothing to do with them is confirmed with a probability "
        "of at most {odds}."
    ),
    "INDICATIVE": (
        "The endpoint {endpoint} gave the claimant's own label for {matches} of {asked} inputs, which is a sign and no "
        "proof: such labels can be made to fit endpoints that have nothing to do with the claimant."
    ),
    "NOT_SUPPORTED": (
        "The answers of the endpoint {endpoint} do not support the claim: {matches} of {asked} inputs got the secret label."
    ),
    "NON_COOPERATIVE": (
        "The endpoint {endpoint} treated the secret inputs otherwise than inputs that look like them, so the claim could "
        "be neither confirmed nor refuted by its answers."
    ),
    "INCONCLUSIVE": (
        "The dispute over the endpoint {endpoint} ended without evidence for either side, after {asked} inputs with "
        "{matches} matches."
    ),
    "VOID": "The dispute over the endpoint {endpoint} is void: a check of the evidence failed, and nothing follows from it.",
}

REASONS: Final = {
    "evidence": "The evidence reached the threshold that was fixed when the dispute was filed.",
    "futile": "The evidence against the claim reached a thousand to one, and the endpoint was let go.",
    "selective_silence": "It left the secret inputs unanswered more often than their look-alikes.",
    "selective_wavering": "Asked twice, it changed its answers to the secret inputs more often than to their look-alikes.",
    "exhausted": "Every input of the family was asked.",
    "budget": "As many inputs were asked as the claimant had allowed at filing.",
    "withheld": "The claimant did not open three blocks in a row in time.",
    "withdrawn": "The claimant withdrew the dispute.",
    "unreachable": "The endpoint answered less than half of the ordinary inputs.",
    "paper_rule": "Decided by the paper's rule: at most one answer in ten may differ.",
    "opening_invalid": "What the claimant opened does not fit what it had committed to.",
    "check_failed": "A signature, a proof of the log, a beacon or the order of the blocks did not hold.",
    "prior_model": "The accused delivered weights that are older than the labels and give the same answers.",
}

FLAG_WORDS: Final = {
    "accuracy": "Accuracy on covers",
    "silence": "Silence on secret inputs",
    "wavering": "Two answers to one question",
    "second_egress": "Other answers to another address",
    "one_answer": "One answer for odd pictures",
    "elsewhere": "Answers from elsewhere",
}

ORIGIN_WORDS: Final = {
    "claimant": "chosen by the claimant alone, so its freedom is added to the threshold",
    "logged": "logged before the labels were drawn",
    "countersigned": "countersigned by the accused or an arbiter",
    "derived": "derived by the service by its fixed rule",
}

ENTRY_WORDS: Final = {
    "registration": "The claimant registered the watermark: the secret inputs are fixed from here on.",
    "beacon": "Public randomness was drawn.",
    "filing": "The dispute was filed; the log does not yet say against whom.",
    "block": "A block of answers was sealed; only then were its labels opened.",
    "model": "The digest of an interface or of weights was logged.",
    "verdict": "The verdict was logged.",
    "withdrawal": "The withdrawal was logged.",
}

STATE_WORDS: Final = {
    "filed": "Filed: the order of the triggers is being drawn",
    "asking": "Running",
    "deciding": "All asked: the verdict is being computed",
    "withdrawn": "Withdrawn: the record is being closed",
    "decided": "Decided",
}

STEP_WORDS: Final = {
    "filed": "The claim was filed, with family {family}, as filing {ordinal} of the mark; the log did not say against whom.",
    "challenge_drawn": "The order of the questions was drawn: {triggers} secret inputs in {blocks} blocks.",
    "block_probed": "A block was asked and its answers were sealed, before its labels were opened (block {block}, from 0).",
    "probing_ended": "Nothing further is asked, after {asked} inputs with {matches} matches.",
    "withdrawn": "The claimant withdrew, after {asked} inputs with {matches} matches.",
    "notice": "The link to this page was made: from here on the accused may know.",
    "verdict": "The verdict was logged: {verdict}, after {asked} inputs with {matches} matches.",
    "answer": "The accused answered (answer {number}).",
    "second_run_asked": "The accused asked for a second run; the claimant may file until {until}.",
    "second_run_filed": "The claimant filed again, and nothing is asked any more in that dispute.",
    "weights_delivered": "The accused delivered weights that were logged before the labels were drawn (delivery {number}).",
    "weights_compared": "The weights of delivery {number} repeated {repeated} of the endpoint's {answered} answers.",
    "weights_failed": "The weights of delivery {number} could not be compared.",
    "cross_test_opened": (
        "Another registrant's claim about this address was confirmed, too (entry {other_verdict}): both may deliver a model "
        "that they committed to, until {until}."
    ),
    "cross_test_delivered": "The claimant delivered a committed model for the test with the other registrant's.",
    "cross_test_failed": "A model that the claimant delivered for that test could not be asked.",
    "cross_test_ended": (
        "The test of both registrants' models with each other's secret inputs ended: {result} ({reason}; the other "
        "verdict is entry {other_verdict})."
    ),
}

# Why a test of two registrants' models ended as it did (docs/protocol.md section 10.1).
CROSS_REASONS: Final = {
    "one_carries_both": (
        "One model carries both marks and the other only its own: a model that was copied and marked again carries both."
    ),
    "both_carry_both": "Both models carry both marks, so neither was there without the other.",
    "none_carries_both": "Each model carries only its own mark, so neither shows that it was made from the other.",
    "not_repeated": (
        "A model answers less than 90 % of the ordinary inputs as the endpoint does, so it is not the model in question."
    ),
    "own_mark_missing": "A model does not carry the mark of the registrant that delivered it.",
    "not_delivered": "Not both registrants delivered a model that could be asked in time. Nobody is judged by silence.",
    "verdict_fell": "One of the two verdicts does not stand any more.",
    "not_comparable": "The registrations are of models with other inputs or classes, so neither can be asked the other's.",
}
