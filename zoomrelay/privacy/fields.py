"""The fields of Zoom's events that hold personal data or secrets, by name. Pure.

A name counts wherever in a payload it stands, in `snake_case` and `camelCase`. Where a name is used for
people and for things alike (`name`, `number`, `value`), it is listed: hidden too much is mended with a
setting, hidden too little is not mended at all.

Sources: the payload types of `@zoom/rivet` and Zoom's event reference; the names are Zoom's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache


class Kind(StrEnum):
    """What a field holds."""

    NAME = "name"
    PERSON = "person"
    """A name, or a table about a person, whose fields count each by its own name."""
    EMAIL = "email"
    PHONE = "phone"
    ADDRESS = "address"
    """Postal, and where somebody is."""
    NETWORK = "network"
    """IP and MAC addresses."""
    LINK = "link"
    """URLs that let in whoever has them, or show a person."""
    TEXT = "text"
    """What people wrote or said, and titles that they gave."""
    SECRET = "secret"
    """Tokens, passcodes, keys."""


_NAMES: Mapping[Kind, str] = {
    Kind.NAME: """
        name names nick_name host_name inviter_name invitee_name invited_by participant_name
        participants_name registrant_name sender_name recipient_name from_name to_name caller_name
        callee_name caller_id_name cnam operator_name owner_name contact_name consumer_name
        customer_name visitor_name guest_name agent_name author_name creator_name created_by_name
        member_name member_names assignee_name requester_name device_name account_support_name
        speaker_name accepted_by forwarded_by_name outgoing_by_name channel_owner_name session_name_user
        audio_name pronouns post_user alias authentication_name customer_key caller_employee_id
        callee_employee_id employee_id
        """,
    Kind.PERSON: """
        inviter inviters owner sender recipient invitee invitees registrant participant participants
        caller callee host hosts user users contact contacts agent agents consumer customer visitor
        guest member members attendee attendees panelist panelists author creator assignee requester
        speaker admins
        """,
    Kind.EMAIL: """
        operator alternative_hosts smtp_delivery_address sso_bypass_users meeting_invitees co_host
        co_hosts share_with_users assistants at_contact
        """,
    Kind.PHONE: """
        phone phones phone_country_code mobile mobile_number number numbers caller_number callee_number
        did_numbers from_number to_number dialed_number original_number forwarded_to forward_to
        redirect_forwarded_by caller_id callee_id_number outbound_caller_id line_number display_number
        consumer_number customer_number zoom_phone_user_number fax fax_number ani dnis sms_number
        """,
    Kind.ADDRESS: """
        address addresses address_line1 address_line2 street city zip postal_code emergency_address
        location caller_location callee_location geolocation gps latitude longitude
        """,
    Kind.NETWORK: """
        ip ips mac mac_addresses bssid ip_addresses_or_ranges
        """,
    Kind.LINK: """
        join_link webinar_url meeting_invite_url invite_link invite_url avatar avatar_url profile_picture_url
        page_url summary_doc_url file_link file_url file_path hyper_link stream_url backup_stream_url
        response_url server_urls recording_url recording_link download_link social_link download_file
        link url cloud_recording_url vb_url whiteboard_url deep_link
        """,
    Kind.TEXT: """
        topic agenda subject title description desc note notes personal_notes comment comments message
        message_content original_message sms_message message_body body text content rich_text
        code_snippet caption question questions answer answers custom_questions value values feedback
        feedback_details transcripts transcription_text summary summary_title summary_overview
        summary_details summary_content edited_summary next_steps meeting_topic webinar_topic
        session_topic file_name keywords cmd quoted_text chat_message org job_title company organization
        industry department dept at_items reply_message emergency_reason opt_out_reason
        call_queue_opt_out_reason stream_name stream_description leave_reason channel_name space_name
        session_name caller_department callee_department caller_cost_center callee_cost_center
        cost_center role_in_purchase_process org_name
        """,
    Kind.SECRET: """
        zak host_key leader_pin pin conference_code park_code tsp_credentials tsp_bridge stream_key
        session_key user_key signature client_code encryption_fingerprint
        """,
}


_ENDINGS: Mapping[Kind, str] = {
    Kind.NAME: "display_name user_name first_name last_name full_name",
    Kind.EMAIL: "email emails email_address email_addresses",
    Kind.PHONE: "phone_number phone_numbers did_number ext_number extension_number",
    Kind.NETWORK: "private_ip public_ip device_ip local_ip ip_address ip_addresses mac_address",
    Kind.LINK: "join_url start_url download_url play_url share_url registration_url meeting_url pic_url",
    Kind.TEXT: "transcript transcription",
    Kind.SECRET: "token password passcode secret pin_code",
}
"""Names that end so: `user_display_name`, `callee_device_private_ip`. Zoom adds fields every month."""


def normal(name: str) -> str:
    """The form in which names are compared: `userName`, `User_Name` and `user_name` are one."""
    return name.replace("_", "").replace("-", "").lower()


KINDS: Mapping[str, Kind] = {normal(name): kind for kind, names in _NAMES.items() for name in names.split()}
"""Normal form of a field's name -> what it holds."""
_ENDS = [(normal(end), kind) for kind, ends in _ENDINGS.items() for end in ends.split()]


@lru_cache(4096)
def kind_of(name: str) -> Kind | None:
    """What a field of this name holds; None where that is nothing personal, as far as is known."""
    own = normal(name)
    return KINDS.get(own) or next((kind for end, kind in _ENDS if own.endswith(end)), None)
